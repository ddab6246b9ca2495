"""Whole rows that arrived before their shard was complete: what a killed run leaves to the next.

A run appends files `runs/<run_id>/journal/<n>.parquet`, each sorted by shard and cut into small row groups, so that the
rows of one shard are read without the rest. A file goes once every shard in it is committed: what a resume reads does
not grow with how long the killed run had run.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from records.schemas import JOURNAL_SCHEMA, JournalRow, journal_rows, journal_table
from storage.stores import Store
from storage.tables import check_types, encode_tables, open_parquet, undamaged

_ROW_GROUP_ROWS = 64
_ENCODED_ROWS = 16 * _ROW_GROUP_ROWS
"""Rows that are an Arrow table at a time while they are written: all of a file would be the driver's rows once more."""
_NAME = re.compile(r"([0-9]{8,})\.parquet")
"""A file of a journal; what else lies beside them is nobody's."""
_DAMAGED = "delete it, and its rows run again"

Wanted = Callable[[str, str], bool]
"""Whether any shard from one id to another, both included, is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFile:
    """One file of a journal."""

    store: Store
    path: str
    rows: int
    groups: tuple[tuple[str, str], ...]
    """First and last shard of each row group."""

    @classmethod
    def open(cls, store: Store, path: str) -> "JournalFile":
        """Reads the footer alone.

        Raises:
            FileNotFoundError: There is no such file.
            ReelscribeError: It is damaged; names it.
        """
        with undamaged(store.uri(path), _DAMAGED), store.open_input(path) as file:
            metadata = open_parquet(file).metadata
            groups = []
            for group in range(metadata.num_row_groups):
                statistics = metadata.row_group(group).column(0).statistics
                if statistics is None:
                    raise ValueError("a row group without statistics")
                groups.append((str(statistics.min), str(statistics.max)))
            return cls(store=store, path=path, rows=metadata.num_rows, groups=tuple(groups))

    def read(self, wanted: Wanted = lambda first, last: True) -> Iterator[JournalRow]:
        """The rows of the groups that may hold a wanted shard, in order, one group in memory.

        Raises:
            FileNotFoundError: There is no such file.
            ReelscribeError: It is damaged; names it.
        """
        groups = [group for group, (first, last) in enumerate(self.groups) if wanted(first, last)]
        if groups:
            with undamaged(self.store.uri(self.path), _DAMAGED), self.store.open_input(self.path) as file:
                parquet = open_parquet(file)
                check_types(parquet.schema_arrow, JOURNAL_SCHEMA)
                for group in groups:
                    yield from journal_rows(parquet.read_row_group(group))


class Journal:
    """The journal of one run; one process appends, any may read. Footers of files are read once and kept.

    One thread may append while another reads and forgets.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._folder = f"runs/{run_id}/journal/"
        self._next: int | None = None
        self._files: dict[str, JournalFile] = {}
        """By path, oldest first."""
        self._open_shards: dict[str, set[str]] = {}
        """Path to its shards that are not committed yet, for the files that this object wrote."""
        self._holding: defaultdict[str, list[str]] = defaultdict(list)
        """Shard to the paths of such files that hold rows of it."""
        self._lock = threading.RLock()
        """Guards the three; never held while the store is asked."""

    def append(self, rows: Sequence[JournalRow]) -> int:
        """Writes the rows as one file, and returns its number; without rows nothing is written.

        Once this returns the rows survive a kill.
        """
        number = self._number()
        if not rows:
            return number
        ordered = sorted(rows, key=lambda row: (row.shard_id, row.video_id, row.version))
        pieces = (ordered[start : start + _ENCODED_ROWS] for start in range(0, len(ordered), _ENCODED_ROWS))
        data = encode_tables(JOURNAL_SCHEMA, map(journal_table, pieces), row_group_rows=_ROW_GROUP_ROWS)
        while not self._store.create(path := f"{self._folder}{number:08d}.parquet", data):
            number += 1
        self._next = number + 1
        self._note(path, [row.shard_id for row in ordered])
        return number

    def read(self, shard_id: str) -> list[JournalRow]:
        """The rows of one shard, oldest file first."""
        self._number()
        found: list[JournalRow] = []
        with self._lock:
            files = [file for path, file in self._files.items() if shard_id in self._open_shards.get(path, (shard_id,))]
        for file in files:
            rows = file.read(lambda first, last: first <= shard_id <= last)
            found.extend(row for row in rows if row.shard_id == shard_id)
        return found

    def forget(self, shard_id: str) -> None:
        """A shard is committed: files that hold no other are removed."""
        done: list[str] = []
        with self._lock:
            for path in self._holding.pop(shard_id, ()):
                self._open_shards[path].discard(shard_id)
                if not self._open_shards[path]:
                    del self._open_shards[path], self._files[path]
                    done.append(path)
        self._store.delete(done)

    def _number(self) -> int:
        """The number of the next file, behind those that were there before."""
        if self._next is None:
            numbers = dict(_numbered(self._store, self._folder))
            self._files = {path: JournalFile.open(self._store, path) for path in numbers}
            self._next = max(numbers.values(), default=-1) + 1
        return self._next

    def _note(self, path: str, shards: Sequence[str]) -> None:
        groups = [shards[start : start + _ROW_GROUP_ROWS] for start in range(0, len(shards), _ROW_GROUP_ROWS)]
        ranges = tuple((group[0], group[-1]) for group in groups)
        with self._lock:
            self._files[path] = JournalFile(store=self._store, path=path, rows=len(shards), groups=ranges)
            self._open_shards[path] = set(shards)
            for shard_id in self._open_shards[path]:
                self._holding[shard_id].append(path)


def journal_files(store: Store, run_id: str) -> Iterator[JournalFile]:
    """The files of one run's journal, oldest first; one that its run removes meanwhile is left out."""
    for path, _ in _numbered(store, f"runs/{run_id}/journal/"):
        try:
            yield JournalFile.open(store, path)
        except FileNotFoundError:
            continue


def delete_run_journals(store: Store, run_id: str) -> None:
    """Removes a run's journal, whose shards are all committed."""
    store.delete([path for path, _ in _numbered(store, f"runs/{run_id}/journal/")])


def _numbered(store: Store, folder: str) -> Iterator[tuple[str, int]]:
    """Path and number of each file of a journal, oldest first."""
    for entry in store.list(folder):
        if match := _NAME.fullmatch(entry.path[len(folder) :]):
            yield entry.path, int(match[1])
