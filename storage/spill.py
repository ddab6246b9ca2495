"""Records set aside on local disk by partition, so that more of them than fit in memory can be joined and sorted."""

import contextlib
import os
import pickle
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, Generic, TypeVar

from records.errors import UserError
from storage.text_size import text_length

R = TypeVar("R")

BUFFERED_RECORDS = 50_000
"""Records in memory before they go to disk."""

BUFFERED_TEXT = 32 * 2**20
"""Characters in them, likewise."""


@contextlib.contextmanager
def spill_folder() -> Iterator[Path]:
    """A new folder on the temporary disk; gone at the end.

    Raises:
        UserError: There is no room for it.
    """
    with _disk():
        made = tempfile.TemporaryDirectory(prefix="catalog-refresh-")
    with made as folder:
        yield Path(folder)


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """Around what the temporary disk may refuse.

    Raises:
        UserError: It did.
    """
    try:
        yield
    except OSError as error:
        folder = tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"
        reason = os.strerror(error.errno) if error.errno is not None else str(error)
        raise UserError(
            f"{folder}, where a listing sets its items aside: {reason}: make room, or name another folder in TMPDIR"
        ) from None


class Spill(Generic[R]):
    """Append by partition, then read a partition back in the order of appending. Small amounts never touch the disk."""

    def __init__(self, folder: Path, buffered_records: int | None = None) -> None:
        self._folder = folder
        self._limit = BUFFERED_RECORDS if buffered_records is None else buffered_records
        self._buffers: defaultdict[int, list[R]] = defaultdict(list)
        self._buffered = 0
        self._buffered_text = 0
        self._flushed_text = 0
        self._on_disk: set[int] = set()

    def add(self, partition: int, record: R) -> None:
        """Appends one record."""
        self._buffers[partition].append(record)
        self._buffered += 1
        self._buffered_text += text_length(record)
        if self._buffered >= self._limit or self._buffered_text >= BUFFERED_TEXT:
            self._flush()

    @property
    def text_length(self) -> int:
        """Characters in all records so far."""
        return self._flushed_text + self._buffered_text

    def read(self, partition: int) -> Iterator[R]:
        """The partition's records, oldest first."""
        if partition in self._on_disk:
            with _disk():
                file = open(self._file(partition), "rb")  # noqa: SIM115 - closed below
            with file:
                while records := _next_records(file):
                    yield from records
        yield from self._buffers.get(partition, ())

    def partitions(self) -> list[int]:
        """Those that hold something, ascending."""
        return sorted(self._on_disk | self._buffers.keys())

    def _flush(self) -> None:
        with _disk():
            self._folder.mkdir(parents=True, exist_ok=True)
            for partition, records in self._buffers.items():
                with open(self._file(partition), "ab") as file:
                    pickle.dump(records, file, protocol=pickle.HIGHEST_PROTOCOL)
                self._on_disk.add(partition)
        self._buffers.clear()
        self._buffered = 0
        self._flushed_text += self._buffered_text
        self._buffered_text = 0

    def _file(self, partition: int) -> Path:
        return self._folder / str(partition)


def _next_records(file: BufferedReader) -> list[Any]:
    """What one flush wrote; empty at the end."""
    with _disk():
        return pickle.load(file) if file.peek(1) else []
