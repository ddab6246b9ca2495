"""How tables of texts travel between Ray's processes."""

import pyarrow as pa
from ray.util import register_serializer


def send_as_streams() -> None:
    """Has this process send tables as Arrow writes them to a stream.

    Ray (2.60) pickles each of the 280 buffers of such a table with its nested type, and again for each piece: what a
    worker gives back has one for each call. Frames and sound are better off with that, since it copies none of them.
    """
    register_serializer(pa.Table, serializer=to_stream, deserializer=from_stream)


def to_stream(table: pa.Table) -> pa.Buffer:
    """The table, or the part of it that a slice shows, in one buffer."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def from_stream(stream: pa.Buffer) -> pa.Table:
    """The table, which lies where the stream does."""
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_all()
