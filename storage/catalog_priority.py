"""What decides which items and shards go first: a numeric column of the owner's table, such as views.

New items are cut into shards by falling value where a listing is told so, and each shard keeps the mean of every
numeric column, so that a plan can sort shards without reading one.
"""

import math
import struct
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from storage.catalog import MetadataRow
from storage.catalog_index import metadata_of

MAX_COLUMNS = 64
"""Numeric columns of which means are kept; those seen first."""

PRIORITY_PARTS = 1 << 16
"""Parts by priority: the leading 16 bits of a float, which tell values apart that differ by more than 6 %."""


def number_of(text: str) -> float | None:
    """A cell as a finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def priority_part(metadata: str, column: str) -> int:
    """The part in which an item is set aside so that parts in order hold falling values; items without one come last.

    Args:
        metadata: As `metadata_text` writes it.
        column: The numeric column.
    """
    value = number_of(metadata_of(metadata).extra.get(column, ""))
    if value is None:
        return PRIORITY_PARTS
    bits: int
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))
    rising = bits ^ (0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else 1 << 63)  # floats in order of their bits as integers
    return PRIORITY_PARTS - 1 - (rising >> 48)


class ShardMeans:
    """Means of the numeric columns over the live items, shard by shard.

    Args:
        before: Column to (S,) the means that the last revision holds.
    """

    def __init__(self, before: Mapping[str, npt.NDArray[np.float64]]) -> None:
        self._before = before
        self._changed: dict[str, dict[int, float]] = {name: {} for name in before}
        self._touched: set[int] = set()

    @property
    def columns(self) -> Collection[str]:
        """The numeric columns so far."""
        return self._changed.keys()

    def set(self, shard: int, rows: Iterable[MetadataRow]) -> None:
        """Takes the metadata that a shard's live items have now; what it had before no longer counts."""
        self._touched.add(shard)
        for changed in self._changed.values():
            changed.pop(shard, None)
        sums: dict[str, tuple[float, int]] = {}
        for row in rows:
            for name, text in row.extra.items():
                value = number_of(text)
                if value is not None and (name in self._changed or len(self._changed) < MAX_COLUMNS):
                    self._changed.setdefault(name, {})
                    total, count = sums.get(name, (0.0, 0))
                    sums[name] = (total + value, count + 1)
        for name, (total, count) in sums.items():
            self._changed[name][shard] = total / count

    def arrays(self, shards: int) -> dict[str, npt.NDArray[np.float64]]:
        """Column to (shards,) mean, NaN where a shard has no number in it."""
        touched = np.fromiter(self._touched, dtype=np.int64, count=len(self._touched))
        found: dict[str, npt.NDArray[np.float64]] = {}
        for name, changed in self._changed.items():
            values = np.full(shards, np.nan)
            before = self._before.get(name)
            if before is not None:
                values[: len(before)] = before
            values[touched] = np.nan
            for shard, mean in changed.items():
                values[shard] = mean
            found[name] = values
        return found
