"""Which files of the catalog belong to each shard at one revision: a line a shard, so that a plan reads one file."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from records.errors import UserError

NONE = -1
"""Where a shard has no file of a kind."""

DAMAGED = "restore it from a copy, or list the source into another output"
"""What to do about a file of the catalog that cannot be read: nothing else knows what it said."""

_SHARD_COLUMNS = ("removed", "metadata", "titles", "locations", "returned", "items")
FILE_KINDS = ("shards", "removed", "metadata", "locations")
"""What a shard may have a file of."""

_WITH_BYTES = "with_bytes"
_MEAN = "mean:"
_ATTEMPT = "attempt:"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardFiles:
    """Which files belong to each shard at one revision; position is the shard's number."""

    removed: npt.NDArray[np.int64]
    """(S,) revision of the shard's `removed` file, or NONE."""
    metadata: npt.NDArray[np.int64]
    """(S,) generation of the shard's `metadata` file, or NONE."""
    titles: npt.NDArray[np.int64]
    """(S,) generation in which a title of the shard last changed, or NONE: other columns make nothing stale."""
    locations: npt.NDArray[np.int64]
    """(S,) revision of the shard's `locations` file, or NONE."""
    returned: npt.NDArray[np.int64]
    """(S,) generation that all files of the shard must reach since deleted items of it came back, or NONE."""
    items: npt.NDArray[np.int64]
    """(S,) live items of the shard, or NONE where a listing before this column was made wrote it."""
    with_bytes: npt.NDArray[np.int64] | None = None
    """(S,) items of the shard, removed ones too, that are not known to be empty; NONE where a listing before this
    column was made wrote it. None where no listing has written it yet."""
    means: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """Numeric metadata column to (S,) its mean over the shard's live items that have it, NaN where none has."""

    attempts: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """Kind of file (`FILE_KINDS`) to (S,) the attempt that wrote the shard's file, NONE
    where there is none or where it was written before listings had attempts."""

    def attempt(self, kind: str, number: int) -> int:
        """The attempt that wrote a shard's file of this kind."""
        return int(self.attempts[kind][number]) if kind in self.attempts else NONE

    def empty(self) -> npt.NDArray[np.bool_]:
        """(S,) whether a shard holds nothing but empty files."""
        return np.zeros(len(self.items), dtype=bool) if self.with_bytes is None else self.with_bytes == 0

    def mean_of(self, column: str) -> npt.NDArray[np.float64]:
        """(S,) of a numeric metadata column.

        Raises:
            UserError: No item has a number in it.
        """
        if column not in self.means:
            known = ", ".join(sorted(self.means)) or "none: --metadata brings them in"
            raise UserError(f"--order {column}: no such numeric metadata column; there are {known}")
        return self.means[column]

    def encode(self) -> bytes:
        """As a Parquet file."""
        columns: dict[str, npt.NDArray[Any]] = {name: getattr(self, name) for name in _SHARD_COLUMNS}
        if self.with_bytes is not None:
            columns[_WITH_BYTES] = self.with_bytes
        columns |= {f"{_MEAN}{name}": values for name, values in self.means.items()}
        columns |= {f"{_ATTEMPT}{name}": values for name, values in self.attempts.items()}
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink, compression="zstd", write_page_checksum=True)
        return sink.getvalue()

    @classmethod
    def decode(cls, data: bytes, *, with_attempts: bool) -> "ShardFiles":
        """What `encode` wrote.

        Args:
            data: The file.
            with_attempts: Whether the listing that wrote it had an attempt, and so knew every column.

        Raises:
            ValueError: A column is missing, or of another type.
        """
        table = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read(use_threads=False)
        names = table.column_names
        for column in table.schema:  # a damaged footer may make bytes of numbers
            if column.type != (pa.float64() if column.name.startswith(_MEAN) else pa.int64()):
                raise ValueError(f"column {column.name} is {column.type}")
        none = np.full(table.num_rows, NONE, dtype=np.int64)
        columns = {name: table[name].to_numpy() if name in names else none for name in _SHARD_COLUMNS}
        means = {name[len(_MEAN) :]: table[name].to_numpy() for name in names if name.startswith(_MEAN)}
        attempts = {n[len(_ATTEMPT) :]: table[n].to_numpy() for n in names if n.startswith(_ATTEMPT)}
        if with_attempts and (attempts.keys() != set(FILE_KINDS) or not set(_SHARD_COLUMNS) <= set(names)):
            raise ValueError(f"its columns are {', '.join(names)}")
        with_bytes = table[_WITH_BYTES].to_numpy() if _WITH_BYTES in names else None
        return cls(**columns, with_bytes=with_bytes, means=means, attempts=attempts)
