"""Writes the objects of a release that hold every row: a view's `.npy` in pieces, and `item_ids.parquet`.

A `.npy` file is a header and then all rows one after the other, so every byte's place is known once the rows are
counted: pieces are written by any number of tasks at once, each from the items files that hold its rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ahead import ahead
from pipeline.publish_rows import vectors_of
from records.releases import IDS_COLUMNS, IDS_SCHEMA, ids_table, npy_header
from records.schemas import VectorDtype
from storage.backends import Piece
from storage.stores import Store
from storage.tables import parquet_writer
from storage.uploads import ObjectWriter

PARTS_AHEAD = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRows:
    """Where rows of a release lie."""

    path: str
    """Of the items file, below the output."""
    first_row: int
    """Number in the release of its first row."""
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorFile:
    """A view's `.npy` file."""

    path: str
    """Below the output."""
    view: str
    rows: int
    dimension: int
    dtype: VectorDtype

    @property
    def header(self) -> bytes:
        """Its first bytes."""
        return npy_header(self.rows, self.dimension, self.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dimension * np.dtype(self.dtype).itemsize

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + self.rows * self.row_bytes

    def rows_of(self, start: int, end: int) -> range:
        """The rows of which bytes [start, end) hold anything."""
        if not self.row_bytes:
            return range(0)
        header = len(self.header)
        first, last = max(start - header, 0) // self.row_bytes, -(-max(end - header, 0) // self.row_bytes)
        return range(first, min(last, self.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceTask:
    """Bytes [start, end) of a view's file."""

    file: VectorFile
    token: str
    number: int
    start: int
    end: int
    parts: tuple[PartRows, ...]
    """The items files that hold its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdsTask:
    """The whole of `item_ids.parquet`."""

    path: str
    """Below the output."""
    parts: tuple[PartRows, ...]


def piece_tasks(file: VectorFile, token: str, piece_bytes: int, parts: Sequence[PartRows]) -> Iterator[PieceTask]:
    """Cuts a file into pieces of one size, the last aside."""
    ends = np.cumsum([part.rows for part in parts])
    for number, start in enumerate(range(0, file.size_bytes, piece_bytes)):
        end = min(start + piece_bytes, file.size_bytes)
        rows = file.rows_of(start, end)
        first = int(np.searchsorted(ends, rows.start, side="right"))
        last = int(np.searchsorted(ends, rows.stop, side="left")) + 1
        held = tuple(parts[first:last]) if len(rows) else ()
        yield PieceTask(file=file, token=token, number=number, start=start, end=end, parts=held)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeWriter:
    """Does either kind of task. Pickled to where it runs; the store is opened there."""

    output_uri: str

    def __call__(self, task: PieceTask | IdsTask) -> dict[str, Any]:
        """Writes it; of a piece, returns view, number and receipt."""
        store = Store.open(self.output_uri)
        if isinstance(task, IdsTask):
            write_ids(store, task)
            return {}
        data = piece_data(store, task)
        piece = Piece(number=task.number, offset=task.start)
        receipt = store.put_piece(task.file.path, task.token, piece, data)
        return {"view": task.file.view, "number": task.number, "receipt": receipt}


def piece_data(store: Store, task: PieceTask) -> bytes:
    """The bytes of a piece, read from the items files."""
    file = task.file
    rows = file.rows_of(task.start, task.end)
    matrix: npt.NDArray[Any] = np.zeros((len(rows), file.dimension), dtype=np.dtype(file.dtype).newbyteorder("<"))
    for part in task.parts:
        wanted = range(max(rows.start, part.first_row), min(rows.stop, part.first_row + part.rows))
        for first, vectors, has in _vectors(store, part, file.view, wanted):
            if len(vectors):
                place = slice(first - rows.start, first - rows.start + len(has))
                matrix[place][has] = vectors
    data = matrix.tobytes()
    header = file.header[task.start : task.end]
    skipped = max(task.start - len(file.header), 0) - rows.start * file.row_bytes if file.row_bytes else 0
    return header + data[skipped : skipped + (task.end - task.start) - len(header)]


def _vectors(
    store: Store, part: PartRows, view: str, wanted: range
) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """Number of the first row, vectors and which rows have one, for each row group that holds a wanted row."""
    if not len(wanted):
        return
    with store.open_input(part.path) as source:
        parquet = pq.ParquetFile(source, pre_buffer=True)
        first = part.first_row
        for group in range(parquet.num_row_groups):
            rows = range(first, first + parquet.metadata.row_group(group).num_rows)
            first = rows.stop
            start, stop = max(rows.start, wanted.start), min(rows.stop, wanted.stop)
            if start < stop:
                column = parquet.read_row_group(group, columns=[f"vector_{view}"])[0]
                yield start, *vectors_of(column.slice(start - rows.start, stop - start))


def write_ids(store: Store, task: IdsTask) -> None:
    """Streams identities and flags of all parts, in order, into one file."""

    def read(part: PartRows) -> pa.Table:
        with store.open_input(part.path) as source:
            return ids_table(pq.ParquetFile(source, pre_buffer=True).read(columns=list(IDS_COLUMNS)))

    with ObjectWriter(store, task.path) as file, parquet_writer(file, IDS_SCHEMA) as writer:
        for table in ahead(read, task.parts, depth=PARTS_AHEAD):
            writer.write_table(table)
