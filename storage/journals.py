"""Whole rows that arrived before their shard was complete: what a killed run leaves to the next.

A run appends files `runs/<run_id>/journal/<n>.parquet`, each sorted by shard and cut into small row groups, so that the
rows of one shard are read without the rest.
"""

import io
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from records.schemas import JournalRow, journal_rows, journal_table
from storage.stores import Store
from storage.tables import encode_table

_ROW_GROUP_ROWS = 64


class Journal:
    """The journal of one run; one process appends, any may read. Footers of files are read once and kept."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._folder = f"runs/{run_id}/journal/"
        self._next: int | None = None
        self._ranges: dict[str, list[tuple[str, str]]] = {}
        """Path to first and last shard of each row group."""

    def append(self, rows: Sequence[JournalRow]) -> int:
        """Writes the rows as one file, and returns its number; without rows nothing is written.

        Once this returns the rows survive a kill.
        """
        if self._next is None:
            self._next = max((_number(path) for path in self._paths()), default=-1) + 1
        if not rows:
            return self._next
        ordered = sorted(rows, key=lambda row: (row.shard_id, row.video_id, row.version))
        data = encode_table(journal_table(ordered), row_group_rows=_ROW_GROUP_ROWS)
        while not self._store.create(f"{self._folder}{self._next:08d}.parquet", data):
            self._next += 1
        self._next += 1
        return self._next - 1

    def read(self, shard_id: str) -> list[JournalRow]:
        """The rows of one shard, oldest file first."""
        rows: list[JournalRow] = []
        for path in self._paths():
            groups = [group for group, (first, last) in enumerate(self._groups(path)) if first <= shard_id <= last]
            if groups:
                with self._store.open_input(path) as file:
                    table = pq.ParquetFile(file).read_row_groups(groups)
                rows.extend(row for row in journal_rows(table) if row.shard_id == shard_id)
        return rows

    def _paths(self) -> list[str]:
        return [entry.path for entry in self._store.list(self._folder)]

    def _groups(self, path: str) -> list[tuple[str, str]]:
        if path not in self._ranges:
            with self._store.open_input(path) as file:
                self._ranges[path] = _shard_ranges(file)
        return self._ranges[path]


def read_journals(store: Store) -> Iterator[JournalRow]:
    """The rows of every run's journal, run by run."""
    for run_id in store.folders("runs/"):
        yield from read_run_journal(store, run_id)


def read_run_journal(store: Store, run_id: str) -> Iterator[JournalRow]:
    """The rows of one run's journal, oldest file first, streamed."""
    for entry in store.list(f"runs/{run_id}/journal/"):
        with store.open_input(entry.path) as file:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=_ROW_GROUP_ROWS):
                yield from journal_rows(pa.Table.from_batches([batch]))


def delete_run_journals(store: Store, run_id: str) -> None:
    """Removes a run's journal, whose shards are all committed."""
    store.delete([entry.path for entry in store.list(f"runs/{run_id}/journal/")])


def _shard_ranges(file: io.BufferedReader) -> list[tuple[str, str]]:
    metadata = pq.ParquetFile(file).metadata
    ranges = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(0).statistics
        assert statistics is not None, "journals are written with statistics"
        ranges.append((str(statistics.min), str(statistics.max)))
    return ranges


def _number(path: str) -> int:
    return int(path.rpartition("/")[2].partition(".")[0])
