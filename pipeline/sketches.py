"""Statistics of streams that add up: each part of a catalogue makes one, and merging them gives that of the whole.

All are frozen, small whatever the catalogue's size, and exact where they can be. Merging is associative; where it
rounds (`Repeats`), parts are merged in order, so that the same parts give the same numbers.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

BINS_AN_OCTAVE: Final = 4
LENGTH_BINS: Final = 20 * BINS_AN_OCTAVE
DISTINCT_HASHES: Final = 16_384
"""Values kept by `Distinct`: exact up to so many, a relative error of 1 / sqrt(that), 0.8 %, beyond."""
REPEATS_KEPT: Final = 256
EXAMPLE_CHARACTERS: Final = 200

_HASH_SPACE: Final = 2.0**64


def hash64(text: str) -> int:
    """64 bits that are the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def add_counts(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Key by key, in the order of the keys."""
    total = Counter(one)
    total.update(other)
    return dict(sorted(total.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long texts are, in characters."""

    count: int = 0
    total: int = 0
    longest: int = 0
    bins: tuple[int, ...] = (0,) * LENGTH_BINS
    """Texts in each quarter of an octave, from 1 character on; see `length_edges`."""

    @classmethod
    def of(cls, lengths: npt.NDArray[np.int64]) -> "Lengths":
        """Of texts of at least one character."""
        if not len(lengths):
            return cls()
        bins = np.minimum(np.floor(np.log2(lengths) * BINS_AN_OCTAVE).astype(np.int64), LENGTH_BINS - 1)
        return cls(
            count=len(lengths),
            total=int(lengths.sum()),
            longest=int(lengths.max()),
            bins=tuple(np.bincount(bins, minlength=LENGTH_BINS).tolist()),
        )

    def merged(self, other: "Lengths") -> "Lengths":
        """Of both."""
        return Lengths(
            count=self.count + other.count,
            total=self.total + other.total,
            longest=max(self.longest, other.longest),
            bins=tuple(one + two for one, two in zip(self.bins, other.bins, strict=True)),
        )

    @property
    def mean(self) -> float:
        """Characters; 0 without texts."""
        return self.total / self.count if self.count else 0.0


def length_edges() -> npt.NDArray[np.float64]:
    """(LENGTH_BINS + 1,) characters between which the bins of `Lengths` lie."""
    edges: npt.NDArray[np.float64] = 2.0 ** (np.arange(LENGTH_BINS + 1) / BINS_AN_OCTAVE)
    return edges


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """How many different values there are: the smallest hashes, as Bar-Yossef et al. (RANDOM 2002) count them."""

    rows: int = 0
    hashes: tuple[int, ...] = ()
    """The smallest `DISTINCT_HASHES` of the values' hashes, ascending."""

    @classmethod
    def of(cls, hashes: Iterable[int]) -> "Distinct":
        """Of values by their `hash64`."""
        values = list(hashes)
        return cls(rows=len(values), hashes=tuple(sorted(set(values))[:DISTINCT_HASHES]))

    def merged(self, other: "Distinct") -> "Distinct":
        """Of both."""
        hashes = tuple(sorted({*self.hashes, *other.hashes})[:DISTINCT_HASHES])
        return Distinct(rows=self.rows + other.rows, hashes=hashes)

    @property
    def distinct(self) -> float:
        """Different values: exact below `DISTINCT_HASHES`."""
        if len(self.hashes) < DISTINCT_HASHES:
            return float(len(self.hashes))
        return min((DISTINCT_HASHES - 1) * _HASH_SPACE / self.hashes[-1], float(self.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """The most frequent values: Misra and Gries' counters, merged as Agarwal et al. (PODS 2012) show."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Value to how often it was seen: at most `missed` too low. At most `REPEATS_KEPT` values."""
    missed: int = 0
    """No value was seen more often than its count here, or 0, plus this; at most rows / (REPEATS_KEPT + 1)."""

    @classmethod
    def of(cls, values: Iterable[str]) -> "Repeats":
        """Of texts, which count by their first `EXAMPLE_CHARACTERS`."""
        return _reduced(Counter(value[:EXAMPLE_CHARACTERS] for value in values), 0)

    def merged(self, other: "Repeats") -> "Repeats":
        """Of both."""
        return _reduced(Counter(self.counts) + Counter(other.counts), self.missed + other.missed)

    def top(self, number: int) -> list[tuple[str, int]]:
        """The most frequent, most frequent first, of those seen more than once."""
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(value, count) for value, count in ordered[:number] if count > 1]


def _reduced(counts: "Counter[str]", missed: int) -> Repeats:
    if len(counts) > REPEATS_KEPT:
        cut = sorted(counts.values(), reverse=True)[REPEATS_KEPT]
        counts = Counter({value: count - cut for value, count in counts.items() if count > cut})
        missed += cut
    return Repeats(counts=dict(sorted(counts.items())), missed=missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directions:
    """Where vectors point, on the whole: enough for the mean cosine of all pairs without looking at pairs."""

    count: int = 0
    total: tuple[float, ...] = ()
    """(D,) sum of the vectors, each brought to unit length."""

    @classmethod
    def of(cls, units: npt.NDArray[np.float64]) -> "Directions":
        """Of (n, D) unit vectors."""
        return cls(count=len(units), total=tuple(units.sum(axis=0).tolist())) if len(units) else cls()

    def merged(self, other: "Directions") -> "Directions":
        """Of both; they have one D, or one has none.

        Raises:
            ValueError: Their dimensions differ.
        """
        if not self.count or not other.count:
            return self if self.count else other
        total = tuple(one + two for one, two in zip(self.total, other.total, strict=True))
        return Directions(count=self.count + other.count, total=total)

    @property
    def mean_cosine(self) -> float:
        """Mean cosine over all pairs of different rows: (|sum|^2 - n) / (n (n - 1)); 0 below two rows."""
        if self.count < 2:
            return 0.0
        return (math.fsum(value * value for value in self.total) - self.count) / (self.count * (self.count - 1))
