"""Reads videos out of a column of Parquet files, each row group's column once for a process.

Parquet has no address for one value: a page of many, compressed or not, is the least that can be read. So a row group's
column goes to a temporary file on disk the first time a row of it is asked for, and its other rows come from there. The
file has no name: it goes with the process however that ends.
"""

import contextlib
import functools
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from io import BufferedReader
from typing import IO, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.faults import SpillError, with_retries
from storage.fetch_config import FetchConfig
from storage.fetched import FetchedMedia
from storage.range_reader import RangeReader

T = TypeVar("T")

_FETCH_BYTES = 8 * 1024**2
_BATCH_ROWS = 8
_FOOTERS = 32
_MISSING = -1


@dataclass(frozen=True, slots=True, eq=False)
class _Footer:
    """What a Parquet file says of itself."""

    size_bytes: int
    metadata: pq.FileMetaData
    first_rows: npt.NDArray[np.int64]
    """(G + 1,) first row of each row group, and the number of rows."""


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """One row group's column, on disk."""

    media: FetchedMedia
    """The values one after the other; its file is gone with it."""
    starts: npt.NDArray[np.int64]
    """(R,) first byte of each row's value."""
    lengths: npt.NDArray[np.int64]
    """(R,) its length, or `_MISSING` for a null."""


class _Once(Generic[T]):
    """Values made once, by whichever thread asks first, and kept up to a total weight; the least used go first."""

    def __init__(self, weigh: Callable[[T], int], most: int) -> None:
        self._weigh = weigh
        self._most = most
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, Future[T]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            found = self._made.get(key)
            mine = found is None
            future: Future[T] = Future() if found is None else found
            self._made[key] = future
            self._made.move_to_end(key)
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                with self._lock:
                    del self._made[key]
                future.set_exception(error)
                raise
            self._shrink()
        return future.result()

    def _shrink(self) -> None:
        with self._lock:
            finished = [(key, self._weigh(one.result())) for key, one in self._made.items() if one.done()]
            total = sum(weight for _, weight in finished)
            for key, weight in finished[:-1]:
                if total <= self._most:
                    return
                del self._made[key]
                total -= weight


class ParquetCells:
    """Reads rows of Parquet files. Safe for threads.

    Args:
        facts: Size and ETag of the object that an item is a row of, held against the catalog.
        read: A byte range of an object, given as an item.
        config: `parquet_disk_bytes` lie in temporary files at most, one row group at least; `spill` says where.
    """

    def __init__(
        self, facts: Callable[[CatalogItem], tuple[int, str]], read: Callable[[CatalogItem], bytes], config: FetchConfig
    ) -> None:
        self._facts = facts
        self._read = read
        self._retry = config.retry
        self._folder = config.spill.folder if config.spill.folder is not None else tempfile.gettempdir()
        self._footers: _Once[_Footer] = _Once(lambda footer: 1, _FOOTERS)
        self._cells: _Once[_Cells] = _Once(lambda cells: cells.media.size_bytes, config.parquet_disk_bytes)

    def __call__(self, item: CatalogItem) -> FetchedMedia:
        """The bytes in the item's row and column, where they lie in the temporary file.

        Raises:
            BadItemError: `changed` where the file is another one, `corrupt` where it cannot be read, `not_found` where
                the row holds nothing, `no_space` where the disk stays full, or what reading raises.
        """
        assert item.row_index is not None, "only rows are read here"
        try:
            footer = self._footers.get((item.uri, item.etag), lambda: self._footer(item))
            if item.row_index >= footer.first_rows[-1]:
                raise BadItemError(FailureKind.CHANGED, f"{footer.first_rows[-1]} rows, not {item.row_index + 1}")
            group = int(np.searchsorted(footer.first_rows, item.row_index, side="right")) - 1
            key = (item.uri, item.etag, item.column, group)
            load = functools.partial(self._cells.get, key, lambda: self._load(item, footer, group))
            cells = with_retries(self._retry, load)
        except SpillError as error:
            raise BadItemError(FailureKind.NO_SPACE, str(error)) from None
        except (pa.ArrowException, OSError) as error:
            raise BadItemError(FailureKind.CORRUPT, f"no Parquet that can be read ({type(error).__name__})") from None
        row = item.row_index - int(footer.first_rows[group])
        start, length = int(cells.starts[row]), int(cells.lengths[row])
        if length == _MISSING:
            raise BadItemError(FailureKind.NOT_FOUND, f"row {item.row_index} has nothing in column {item.column}")
        return FetchedMedia(os.dup(cells.media.descriptor), length, offset=start)

    def _footer(self, item: CatalogItem) -> _Footer:
        size_bytes, _ = self._facts(item)
        metadata = pq.ParquetFile(self._open(item, size_bytes, 0)).metadata
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return _Footer(size_bytes, metadata, np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]).astype(np.int64))

    def _load(self, item: CatalogItem, footer: _Footer, group: int) -> _Cells:
        chunk = _chunk(footer.metadata, group, item.column)
        first = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
        first = chunk.data_page_offset if first is None else first
        source = self._open(item, footer.size_bytes, first + chunk.total_compressed_size)
        table = pq.ParquetFile(source, metadata=footer.metadata, buffer_size=_FETCH_BYTES, pre_buffer=False)
        with _disk(self._folder):
            file = tempfile.TemporaryFile(prefix="parquet-cells-", dir=self._folder)  # noqa: SIM115 - closing may fail
        try:
            sizes = np.asarray(list(self._copied(table, group, item.column, file)), dtype=np.int64)
            ends = np.cumsum(np.maximum(sizes, 0))
            media = FetchedMedia(os.dup(file.fileno()), int(ends[-1]) if len(ends) else 0)
        finally:
            with contextlib.suppress(OSError):  # what could not be written yet
                file.close()
        return _Cells(media, ends - np.maximum(sizes, 0), sizes)

    def _copied(self, table: pq.ParquetFile, group: int, column: str, file: IO[bytes]) -> Iterator[int]:
        """Writes one row group's column; yields the length of each value."""
        for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column], use_threads=False):
            for value in _values(batch, column):
                data = value.as_buffer() if value.is_valid else None
                if data is not None:
                    with _disk(self._folder):
                        file.write(data)
                yield _MISSING if data is None else data.size
        with _disk(self._folder):
            file.flush()

    def _open(self, item: CatalogItem, size_bytes: int, ahead_until: int) -> BufferedReader:
        def read(start: int, end: int) -> bytes:
            part = CatalogItem(
                video_id=item.video_id,
                version=item.version,
                uri=item.uri,
                size_bytes=end - start,
                etag=item.etag,
                byte_offset=start,
            )
            return self._read(part)

        return BufferedReader(RangeReader(read, size_bytes, _FETCH_BYTES, ahead_until), buffer_size=64 * 1024)


@contextlib.contextmanager
def _disk(folder: str) -> Iterator[None]:
    """Around what the worker's own disk may refuse.

    Raises:
        SpillError: It did.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SpillError(f"no room in {folder}, where rows of Parquet files are set aside: {reason}") from None


def _chunk(metadata: pq.FileMetaData, group: int, column: str) -> pq.ColumnChunkMetaData:
    row_group = metadata.row_group(group)
    for index in range(row_group.num_columns):
        if row_group.column(index).path_in_schema == column:
            return row_group.column(index)
    raise BadItemError(FailureKind.CHANGED, f"there is no column {column} any more")


def _values(batch: pa.RecordBatch, column: str) -> Any:  # noqa: ANN401 - an array of bytes
    array = batch.column(0)
    return pc.struct_field(array, column.partition(".")[2]) if pa.types.is_struct(array.type) else array
