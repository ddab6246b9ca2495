"""What gates look at, counted in one pass over the rows: each task makes its own, merging them gives the release's.

Pure functions of Arrow tables; a text's length is in characters, a share is counted later.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from pipeline.sketches import Directions, Distinct, Lengths, Repeats, add_counts

NORM_TOLERANCE: Final = 0.01
"""How far from 1 the norm of a unit vector may lie: float16 keeps it within 0.001."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextStatistics:
    """One kind of text."""

    expected: int = 0
    """Rows where there should be one: the stage gave a result, and no note says why it is empty."""
    empty: int = 0
    """Of them, those without."""
    truncated: int = 0
    """Texts that a model's output limit cut."""
    lengths: Lengths = field(default_factory=Lengths)

    @classmethod
    def of(cls, lengths: npt.NDArray[np.int64], expected: npt.NDArray[np.bool_], truncated: int) -> "TextStatistics":
        """Of (n,) lengths in characters, 0 where there is no text, and whether one was expected."""
        return cls(
            expected=int(expected.sum()),
            empty=int((expected & (lengths == 0)).sum()),
            truncated=truncated,
            lengths=Lengths.of(lengths[lengths > 0]),
        )

    def merged(self, other: "TextStatistics") -> "TextStatistics":
        """Of both."""
        return TextStatistics(
            expected=self.expected + other.expected,
            empty=self.empty + other.empty,
            truncated=self.truncated + other.truncated,
            lengths=self.lengths.merged(other.lengths),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewStatistics:
    """One view's vectors and documents."""

    missing: Mapping[str, int] = field(default_factory=dict)
    """Why there is no vector, to how many rows."""
    vectors: int = 0
    cut: int = 0
    """Documents of which the encoder did not see all."""
    not_finite: int = 0
    zero: int = 0
    off_unit: int = 0
    """Vectors whose norm is further than `NORM_TOLERANCE` from 1, zeros and not finite ones included."""
    norm_total: float = 0.0
    """Sum of the finite norms."""
    norm_min: float | None = None
    norm_max: float = 0.0
    directions: Directions = field(default_factory=Directions)

    @classmethod
    def of(cls, vectors: Floats, missing: Mapping[str, int], cut: int) -> "ViewStatistics":
        """Of the (n, D) vectors that there are."""
        if not len(vectors):
            return cls(missing=dict(missing), cut=cut)
        norms = np.linalg.norm(vectors, axis=1)
        finite = np.isfinite(norms)
        usable = finite & (norms > 0)
        return cls(
            missing=dict(missing),
            vectors=len(vectors),
            cut=cut,
            not_finite=int((~finite).sum()),
            zero=int((norms == 0).sum()),
            off_unit=int((~(np.abs(norms - 1.0) <= NORM_TOLERANCE)).sum()),
            norm_total=float(norms[finite].sum()),
            norm_min=float(norms[finite].min()) if finite.any() else None,
            norm_max=float(norms[finite].max(initial=0.0)),
            directions=Directions.of(vectors[usable] / norms[usable, None]),
        )

    def merged(self, other: "ViewStatistics") -> "ViewStatistics":
        """Of both."""
        return ViewStatistics(
            missing=add_counts(self.missing, other.missing),
            vectors=self.vectors + other.vectors,
            cut=self.cut + other.cut,
            not_finite=self.not_finite + other.not_finite,
            zero=self.zero + other.zero,
            off_unit=self.off_unit + other.off_unit,
            norm_total=self.norm_total + other.norm_total,
            norm_min=min((norm for norm in (self.norm_min, other.norm_min) if norm is not None), default=None),
            norm_max=max(self.norm_max, other.norm_max),
            directions=self.directions.merged(other.directions),
        )

    @property
    def rows(self) -> int:
        """Rows looked at."""
        return self.vectors + sum(self.missing.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStatistics:
    """Everything that gates and report count, but for what they look at in the sample."""

    rows: int = 0
    rows_with_errors: int = 0
    without_video: int = 0
    """Rows whose file has no video stream, as far as it could be read."""
    without_audio: int = 0
    failed_rows: Mapping[str, int] = field(default_factory=dict)
    """Stage to rows where it has no result, or one stream could not be read; 0 where none."""
    error_kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Stage to kind of failure to how many."""
    texts: Mapping[str, TextStatistics] = field(default_factory=dict)
    """`caption`, `transcript`, `audio_description`."""
    languages: Mapping[str, int] = field(default_factory=dict)
    """ISO 639-1 code to transcripts with text in it."""
    uncertain_languages: int = 0
    """Of them, those whose language was less than half certain."""
    captions: Distinct = field(default_factory=Distinct)
    repeats: Repeats = field(default_factory=Repeats)
    views: Mapping[str, ViewStatistics] = field(default_factory=dict)
    made_with: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Stage to what a file's footer says of its making (JSON) to how many files."""

    def merged(self, other: "ReleaseStatistics") -> "ReleaseStatistics":
        """Of both."""
        names = [each.name for each in fields(self)]
        return ReleaseStatistics(**{name: _merged(getattr(self, name), getattr(other, name)) for name in names})

    def brief(self) -> "ReleaseStatistics":
        """Without what only merging needs: small enough for a manifest."""
        return replace(
            self,
            captions=Distinct(rows=self.captions.rows),
            repeats=Repeats(counts=dict(self.repeats.top(10)), missed=self.repeats.missed),
            views={name: replace(view, directions=Directions()) for name, view in self.views.items()},
            made_with={},
        )

    def encode(self) -> bytes:
        """As JSON."""
        return _ADAPTER.dump_json(self)

    @classmethod
    def decode(cls, data: bytes) -> "ReleaseStatistics":
        """What `encode` wrote."""
        return _ADAPTER.validate_json(data)


def _merged(one: Any, other: Any) -> Any:  # noqa: ANN401 - any field's value
    """Numbers add up, sketches merge, mappings do either key by key."""
    if isinstance(one, Mapping):
        both = {key: _merged(one[key], other[key]) for key in one.keys() & other.keys()}
        return {**one, **other, **both}
    if isinstance(one, int | float):
        return one + other
    return one.merged(other)


def counts_of(values: Sequence[str]) -> dict[str, int]:
    """How often each value comes, in the order of the values."""
    return dict(sorted(Counter(values).items()))


_ADAPTER: TypeAdapter[ReleaseStatistics] = TypeAdapter(ReleaseStatistics)
