"""How values and files cross between the sandbox's two processes: arrays in one anonymous file, the rest pickled.

The file is a memfd, handed over as a descriptor with a short message on the socket and mapped by the receiver. So
arrays are written once and never copied on arrival, and no size limit of `/dev/shm` applies (64 MB in a plain Docker
container).
"""

import mmap
import os
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

_ALIGNMENT = 64
_MAX_MESSAGE_BYTES = 60_000
_MAX_FILES = 1


def send_value(connection: socket.socket, value: object, files: Sequence[int] = ()) -> None:
    """Sends any picklable value; numpy arrays and `pickle.PickleBuffer`s travel outside the pickle.

    Args:
        connection: To the other process.
        value: What `receive_value` gives there.
        files: Descriptors to hand over, at most one; the sender keeps its own.

    Raises:
        OSError: The other side is gone.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    descriptor = os.memfd_create("sandbox")
    try:
        for part in parts:
            _write(descriptor, part)
            _write(descriptor, memoryview(bytes(-part.nbytes % _ALIGNMENT)))
        lengths = struct.pack(f"<{len(parts)}Q", *(part.nbytes for part in parts))
        if len(lengths) > _MAX_MESSAGE_BYTES:
            raise ValueError(f"{len(parts)} arrays are too many for one message")
        socket.send_fds(connection, [lengths], [descriptor, *files])
    finally:
        os.close(descriptor)


def receive_value(connection: socket.socket) -> Any:  # noqa: ANN401 - what was pickled
    """Receives a value that came without files; its arrays lie in the mapped file, writable, and free it when they go.

    Raises:
        EOFError: The other side is gone.
    """
    value, files = receive_message(connection)
    assert not files, "files come with calls only"
    return value


def receive_message(connection: socket.socket) -> tuple[Any, list[int]]:
    """Receives what `send_value` sent: the value, and descriptors that the receiver closes.

    Raises:
        EOFError: The other side is gone.
    """
    try:
        message, descriptors, _, _ = socket.recv_fds(connection, _MAX_MESSAGE_BYTES, 1 + _MAX_FILES)
    except ConnectionResetError as error:
        raise EOFError("the other side of the sandbox is gone") from error
    if not message:
        raise EOFError("the other side of the sandbox is gone")
    descriptor, *files = descriptors
    try:
        view = memoryview(mmap.mmap(descriptor, 0))
    finally:
        os.close(descriptor)
    parts: list[memoryview] = []
    start = 0
    for length in struct.unpack(f"<{len(message) // 8}Q", message):
        parts.append(view[start : start + length])
        start += length + -length % _ALIGNMENT
    return pickle.loads(parts[0], buffers=parts[1:]), files


def _write(descriptor: int, data: memoryview) -> None:
    """Writes all of it: one call takes 2 GiB at most."""
    data = data.cast("B")
    while data.nbytes:
        data = data[os.write(descriptor, data) :]
