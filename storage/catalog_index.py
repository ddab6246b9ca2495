"""The index of every id the catalog has seen, sorted by hash: what makes a refresh a join in bounded memory.

The index lies in files of some hundred thousand ids, cut where the hash's leading bits change. A listing is set aside
by the same bits, so that one part of it meets one stretch of the index at a time.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from records.errors import ReelscribeError
from records.items import Metadata
from storage.shard_files import DAMAGED
from storage.spill import Spill
from storage.stores import Store
from storage.tables import open_parquet, record_table, table_records, undamaged

PARTITIONS = 1024
"""Parts that a listing is set aside in: at 100 million items, about 100,000 items each."""

FILE_ROWS = 200_000
"""Ids in an index file before the next one is begun."""

FILE_BYTES = 64 * 2**20
"""Bytes of their columns, likewise."""

_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """What the catalog knows of one id: its newest version."""

    video_id: str
    version: int
    shard: int
    """Number of the shard that holds this version."""
    live: bool
    """False once deleted; the line stays, so that a version is never given twice."""
    uri: str
    """Without a signature."""
    size_bytes: int | None
    etag: str
    byte_offset: int | None
    metadata: str
    """As `metadata_text` writes it."""
    row_index: int | None = None
    column: str = ""
    signature: str = ""
    """Digest of the presigned URL that the catalog holds, or empty."""


def partition_of(video_id: str) -> int:
    """The part that an id belongs to."""
    digest = hashlib.blake2b(video_id.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") * PARTITIONS >> 32


def metadata_text(metadata: Metadata) -> str:
    """Metadata as one text, equal for equal metadata; empty where there is none."""
    if not metadata.title and not metadata.extra:
        return ""
    return json.dumps([metadata.title, dict(sorted(metadata.extra.items()))], ensure_ascii=False)


def metadata_of(text: str) -> Metadata:
    """What `metadata_text` wrote."""
    if not text:
        return Metadata()
    title, extra = json.loads(text)
    return Metadata(title=title, extra=extra)


def read_index(store: Store, folder: str) -> Iterator[tuple[int, list[IndexRow]]]:
    """Each part of the index in a folder with its rows, ascending; parts without rows are left out.

    Raises:
        ReelscribeError: There is no index: every item would count as new.
    """
    return ((part, list(rows)) for part, rows in groupby(_rows(store, folder), lambda row: partition_of(row.video_id)))


def _rows(store: Store, folder: str) -> Iterator[IndexRow]:
    found = False
    for entry in store.list(f"{folder}items-"):
        found = True
        with undamaged(store.uri(entry.path), DAMAGED), store.open_input(entry.path) as file:
            parquet, rows = open_parquet(file), 0
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
                rows += batch.num_rows
                yield from table_records(IndexRow, batch)
            if rows != parquet.metadata.num_rows:
                raise ValueError(f"{rows} rows, not {parquet.metadata.num_rows}")
    if not found:
        raise ReelscribeError(f"{store.uri(folder)}: the catalog's index of its items is gone: {DAMAGED}")


def index_files(folder: str, rows: Spill[IndexRow]) -> Iterator[tuple[str, bytes]]:
    """Path and content of each index file in a folder, from rows that were set aside by `partition_of`."""
    tables: list[pa.Table] = []
    first = ids = size_bytes = 0
    for part in rows.partitions():
        if not tables:
            first = part
        ordered = sorted(rows.read(part), key=lambda row: row.video_id)
        tables.append(record_table(IndexRow, ordered))
        ids, size_bytes = ids + tables[-1].num_rows, size_bytes + tables[-1].nbytes
        if ids >= FILE_ROWS or size_bytes >= FILE_BYTES:
            yield _index_file(folder, first, tables)
            tables, ids, size_bytes = [], 0, 0
    if tables:
        yield _index_file(folder, first, tables)


def _index_file(folder: str, first: int, tables: list[pa.Table]) -> tuple[str, bytes]:
    sink = io.BytesIO()
    pq.write_table(
        pa.concat_tables(tables), sink, compression="zstd", row_group_size=64 * 1024, write_page_checksum=True
    )
    return f"{folder}items-{first:04d}.parquet", sink.getvalue()
