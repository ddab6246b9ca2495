"""Frozen records to Parquet bytes and back, for the tables that belong to the store itself."""

import contextlib
import functools
import io
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from records.arrow import struct_fields
from records.errors import ReelscribeError

T = TypeVar("T")


_FLOATS = ("FLOAT", "DOUBLE", "FIXED_LEN_BYTE_ARRAY")
"""Parquet's types of floats; the last holds float16."""


@contextlib.contextmanager
def undamaged(uri: str, advice: str) -> Iterator[None]:
    """Around the reading and decoding of a file, so that one which is not as it was written is named, with what to do.

    Arrow says of a broken page what its codec or Thrift says (an `OSError` without a number), and of broken
    metadata that a column is missing, a text no Unicode or a value none of an enum.

    Raises:
        ReelscribeError: It is damaged.
    """
    try:
        yield
    except (ReelscribeError, MemoryError):  # Arrow's is an ArrowException; no damage was seen to cause one
        raise
    except (pa.ArrowException, ValueError, KeyError, IndexError, TypeError, OverflowError, OSError) as error:
        if isinstance(error, FileNotFoundError) or getattr(error, "errno", None) is not None:
            raise
        reason = str(error).partition("\n")[0]
        raise ReelscribeError(f"{uri} is damaged: {advice} ({reason})") from error


def encode_table(
    table: pa.Table, *, footer: Mapping[str, str] | None = None, row_group_rows: int | None = None
) -> bytes:
    """A table as a Parquet file; the same table and footer give the same bytes."""
    if footer:
        table = table.replace_schema_metadata({key.encode(): value.encode() for key, value in sorted(footer.items())})
    return encode_tables(table.schema, [table], row_group_rows=row_group_rows)


def encode_tables(schema: pa.Schema, tables: Iterable[pa.Table], *, row_group_rows: int | None = None) -> bytes:
    """Tables of one schema as one Parquet file; each is asked for once the one before is written."""
    sink = io.BytesIO()
    writer: Any = pq.ParquetWriter  # its stub knows no list of columns
    dictionary = _dictionary_columns(schema.remove_metadata())
    with writer(sink, schema, compression="zstd", use_dictionary=dictionary, write_page_checksum=True) as file:
        for table in tables:
            file.write_table(table, row_group_size=row_group_rows)
    return sink.getvalue()


@functools.lru_cache(maxsize=64)
def _dictionary_columns(schema: pa.Schema) -> list[str]:
    """All columns but floats, which hardly repeat: a dictionary of vectors takes five times as long to write."""
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink)
    leaves = pq.ParquetFile(sink).schema
    columns = [leaves.column(index) for index in range(len(leaves.names))]
    return [column.path for column in columns if column.physical_type not in _FLOATS]


def parquet_writer(
    file: io.RawIOBase,
    schema: pa.Schema,
    *,
    plain: Container[str] = (),
    dictionary: Sequence[str] = (),
) -> pq.ParquetWriter:
    """Opens a Parquet file that is written row group by row group.

    Args:
        file: Where it goes, front to back.
        schema: Of every table that will be written.
        plain: Columns that are not compressed.
        dictionary: Columns of few different values.
    """
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink)
    leaves: Any = pq.ParquetFile(sink).schema
    paths = [leaves.column(index).path for index in range(len(leaves))]
    codecs = {path: "none" if path.partition(".")[0] in plain else "zstd" for path in paths}
    writer: Any = pq.ParquetWriter  # its stub knows neither such files nor lists of columns
    opened: pq.ParquetWriter = writer(file, schema, compression=codecs, use_dictionary=list(dictionary))
    return opened


def record_table(record: type[T], rows: Sequence[T]) -> pa.Table:
    """Records of one flat dataclass as a table: a column a field. Four times as fast as line by line."""
    schema = pa.schema(struct_fields(record, pa.float32()))
    columns = [pa.array([_plain(getattr(row, field.name)) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def table_records(record: type[T], table: pa.Table | pa.RecordBatch) -> list[T]:
    """What `record_table` made.

    Raises:
        ValueError: A column has another type than its field.
    """
    check_types(table.schema, pa.schema(struct_fields(record, pa.float32())))
    return [record(**line) for line in table.to_pylist(maps_as_pydicts="strict")]


def check_types(found: pa.Schema, known: pa.Schema) -> None:
    """Sees that columns are of the kind that they were written as: a damaged footer may turn texts into bytes.

    Raises:
        ValueError: One is not.
    """
    for field in found:
        at = known.get_field_index(field.name)
        if at >= 0 and (field.type.id != known.field(at).type.id or "binary" in str(field.type)):
            raise ValueError(f"column {field.name} is {field.type}, not {known.field(at).type}")


def encode_records(record: type[T], rows: Sequence[T]) -> bytes:
    """Records of one flat dataclass as a Parquet file, in order."""
    return encode_table(record_table(record, rows))


def decode_records(record: type[T], data: bytes) -> list[T]:
    """What `encode_records` wrote."""
    return table_records(record, read_table(data))


def read_table(data: bytes) -> pa.Table:
    """A whole Parquet file in memory, read in this thread alone.

    A thread of Arrow's pool may still let go of the bytes while the interpreter ends, and Python ends threads that come
    to it then, in the middle of a destructor: the process aborts. For some hundred rows others only cost time.

    Raises:
        ValueError: It is damaged; `undamaged` names what else may be raised.
    """
    with pa.BufferReader(data) as file:
        parquet = open_parquet(file)
        table = parquet.read(use_threads=False)
        if table.num_rows != parquet.metadata.num_rows:
            raise ValueError(f"{table.num_rows} rows, not {parquet.metadata.num_rows}")
        return table


def open_parquet(file: io.BufferedReader | pa.NativeFile) -> pq.ParquetFile:
    """A Parquet file, whose pages are held against their checksums where they have any.

    Raises:
        ValueError: Its row groups do not add up to its rows: no checksum holds the footer.
    """
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    metadata = parquet.metadata
    rows = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    if rows != metadata.num_rows:
        raise ValueError(f"{rows} rows in its row groups, not {metadata.num_rows}")
    return parquet


def _plain(value: object) -> object:
    return list(value.items()) if isinstance(value, Mapping) else value
