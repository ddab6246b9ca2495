"""Frozen records to Parquet bytes and back, for the tables that belong to the store itself."""

import io
from collections.abc import Iterable, Mapping
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from records.arrow import from_dict, struct_fields, to_dict

T = TypeVar("T")


def encode_table(
    table: pa.Table, *, footer: Mapping[str, str] | None = None, row_group_rows: int | None = None
) -> bytes:
    """A table as a Parquet file; the same table and footer give the same bytes."""
    if footer:
        table = table.replace_schema_metadata({key.encode(): value.encode() for key, value in sorted(footer.items())})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_rows)
    return sink.getvalue()


def encode_records(record: type[T], rows: Iterable[T]) -> bytes:
    """Records of one dataclass as a Parquet file, in order."""
    schema = pa.schema(struct_fields(record, pa.float32()))
    return encode_table(pa.Table.from_pylist([to_dict(row) for row in rows], schema=schema))


def decode_records(record: type[T], data: bytes) -> list[T]:
    """What `encode_records` wrote."""
    return [from_dict(record, line) for line in pq.read_table(pa.BufferReader(data)).to_pylist()]
