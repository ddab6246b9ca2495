"""Quality gates: what a release must keep to before it becomes the newest. Pure functions of counts and samples."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from pipeline.quality_stats import ReleaseStatistics, TextStatistics, ViewStatistics
from pipeline.vector_quality import Spectrum

State = Literal["passed", "failed", "skipped"]

GENERATED: Final = ("caption", "audio_description")
"""Texts that a language model writes: it may stop too early or too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """The limits, each set with `--gate name=value`. A share lies between 0 and 1; 1, or 0 for `min_`, lets all pass.

    Raises:
        ValueError: A limit is out of range.
    """

    max_error_share: float = 0.05
    """Rows of a stage without a result, of each stage; of `decode` also rows of which one stream failed."""
    max_empty_share: float = 0.02
    """Texts that are empty although nothing says why, of captions, transcripts and sound descriptions each."""
    max_truncated_share: float = 0.10
    """Texts that the output limit cut, of captions and sound descriptions each; documents that the encoder cut."""
    max_repeated_share: float = 0.10
    """Captions that repeat another's, up to case and spaces."""
    max_one_caption_share: float = 0.02
    """Rows that share the one most frequent caption."""
    max_uncertain_language_share: float = 0.50
    """Transcripts whose language was less than half certain."""
    max_language_shift: float = 0.15
    """Total variation distance between the languages of this release and the last."""
    max_length_change: float = 0.30
    """Change of the mean length of captions since the last release, relative."""
    max_off_unit_share: float = 0.0
    """Vectors of a view that are not finite, zero or, where the config normalizes, not of unit length."""
    max_mean_cosine: float = 0.90
    """Mean cosine of all pairs of a view's vectors: 1 is one point."""
    min_rank_share: float = 0.02
    """Effective rank of a view's vectors as a share of the highest it could have: near 0 is a line."""
    min_neighbour_overlap: float = 0.50
    """Share of an item's nearest neighbours that were its nearest in the last release, of each view."""
    max_missing_video: float = 0.10
    """Rows without a vector of this view, for whatever reason."""
    max_missing_audio: float = 0.60
    max_missing_metadata: float = 1.0
    max_missing_all: float = 0.05
    min_rows: int = 50
    """With fewer rows to judge, all but errors, missing views and broken vectors are skipped."""
    neighbours: int = 10
    """Neighbours compared."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name in ("min_rows", "neighbours"):
                if value < 1:
                    raise ValueError(f"{name} must be at least 1, not {value}")
            elif not value >= 0 or (value > 1 and name != "max_length_change"):
                raise ValueError(f"{name} lies between 0 and 1, unlike {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One number held against its limit."""

    gate: str
    """The limit's name without `max_` or `min_`."""
    subject: str
    """Which stage, text or view."""
    value: float | None
    """None where there was nothing to judge."""
    limit: float
    at_least: bool
    """Whether the limit is the least allowed; else it is the most."""
    state: State
    detail: str = ""
    """What the number was counted over."""

    @property
    def name(self) -> str:
        """The gate and its subject."""
        return f"{self.gate}.{self.subject}" if self.subject else self.gate

    @property
    def setting(self) -> str:
        """The limit's own name in `GateLimits`."""
        views_own = f"_{self.subject}" if self.gate == "missing" else ""
        return f"{'min' if self.at_least else 'max'}_{self.gate}{views_own}"

    def says(self) -> str:
        """One line for a person."""
        value = "nothing" if self.value is None else f"{self.value:.4g}"
        sign = ">=" if self.at_least else "<="
        return f"{self.name} is {value}, must be {sign} {self.limit:g} ({self.detail})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that gates judge."""

    statistics: ReleaseStatistics
    spectra: Mapping[str, Spectrum]
    """View to what the sample fills."""
    overlaps: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """View to overlap of neighbours with the last release and the items compared; empty for a first release."""
    previous: ReleaseStatistics | None = None
    """Of the last release."""
    normalized: bool = True
    """Whether the config promises unit vectors."""


def judge(evidence: Evidence, limits: GateLimits) -> list[GateResult]:
    """Every gate, in a fixed order; skipped ones included."""
    return [
        *_errors(evidence.statistics, limits),
        *_texts(evidence.statistics, limits),
        *_languages(evidence, limits),
        *_length_change(evidence, limits),
        *_views(evidence, limits),
        *_overlaps(evidence, limits),
    ]


def failed(results: list[GateResult]) -> list[GateResult]:
    """Those that stop a release."""
    return [result for result in results if result.state == "failed"]


def language_shift(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Total variation distance between two mixes, by their counts: 0 for equal shares, 1 for disjoint."""
    total, others = sum(one.values()), sum(other.values())
    return 0.5 * sum(abs(one.get(key, 0) / total - other.get(key, 0) / others) for key in sorted({*one, *other}))


def _most(gate: str, subject: str, value: float, limit: float, detail: str) -> GateResult:
    state: State = "passed" if value <= limit else "failed"  # what is no number fails
    return GateResult(gate=gate, subject=subject, value=value, limit=limit, at_least=False, state=state, detail=detail)


def _share(gate: str, subject: str, part: int, whole: int, limit: float, what: str, min_rows: int = 0) -> GateResult:
    if whole < max(min_rows, 1):
        return _skip(gate, subject, limit, f"{whole} {what}: too few to judge")
    return _most(gate, subject, part / whole, limit, f"{part:,} of {whole:,} {what}")


def _skip(gate: str, subject: str, limit: float, why: str, *, at_least: bool = False) -> GateResult:
    return GateResult(
        gate=gate, subject=subject, value=None, limit=limit, at_least=at_least, state="skipped", detail=why
    )


def _errors(statistics: ReleaseStatistics, limits: GateLimits) -> Iterator[GateResult]:
    for stage, count in statistics.failed_rows.items():
        yield _share("error_share", stage, count, statistics.rows, limits.max_error_share, "rows")


def _texts(statistics: ReleaseStatistics, limits: GateLimits) -> Iterator[GateResult]:
    rows = limits.min_rows
    for name, text in statistics.texts.items():
        what = f"rows with {name.replace('_', ' ')}s due"
        yield _share("empty_share", name, text.empty, text.expected, limits.max_empty_share, what, rows)
    for name, text in statistics.texts.items():
        if name in GENERATED:
            yield _truncated(name, text, limits)
    captions = statistics.captions
    repeated = captions.rows - round(captions.distinct)
    yield _share("repeated_share", "caption", repeated, captions.rows, limits.max_repeated_share, "captions", rows)
    top = statistics.repeats.top(1)
    most = top[0][1] if top else 0
    yield _share("one_caption_share", "caption", most, captions.rows, limits.max_one_caption_share, "captions", rows)


def _truncated(name: str, text: TextStatistics, limits: GateLimits) -> GateResult:
    what = f"{name.replace('_', ' ')}s"
    limit = limits.max_truncated_share
    return _share("truncated_share", name, text.truncated, text.lengths.count, limit, what, limits.min_rows)


def _languages(evidence: Evidence, limits: GateLimits) -> Iterator[GateResult]:
    now = evidence.statistics
    spoken = sum(now.languages.values())
    limit = limits.max_uncertain_language_share
    rows = limits.min_rows
    yield _share("uncertain_language_share", "", now.uncertain_languages, spoken, limit, "transcripts with words", rows)
    limit = limits.max_language_shift
    if evidence.previous is None:
        yield _skip("language_shift", "", limit, "no release to compare with")
        return
    before = sum(evidence.previous.languages.values())
    if min(spoken, before) < rows:
        yield _skip("language_shift", "", limit, f"{spoken} transcripts, {before} in the last release: too few")
        return
    shift = language_shift(now.languages, evidence.previous.languages)
    yield _most("language_shift", "", shift, limit, f"{spoken:,} transcripts, {before:,} in the last release")


def _length_change(evidence: Evidence, limits: GateLimits) -> Iterator[GateResult]:
    limit = limits.max_length_change
    if evidence.previous is None:
        yield _skip("length_change", "caption", limit, "no release to compare with")
        return
    now = evidence.statistics.texts.get("caption", TextStatistics()).lengths
    before = evidence.previous.texts.get("caption", TextStatistics()).lengths
    if min(now.count, before.count) < limits.min_rows:
        yield _skip("length_change", "caption", limit, f"{now.count} captions, {before.count} in the last: too few")
        return
    detail = f"{now.mean:.0f} characters, {before.mean:.0f} in the last release"
    yield _most("length_change", "caption", abs(now.mean / before.mean - 1.0), limit, detail)


def _views(evidence: Evidence, limits: GateLimits) -> Iterator[GateResult]:
    views = evidence.statistics.views
    for name, view in views.items():
        missing = view.rows - view.vectors
        yield _share("missing", name, missing, view.rows, getattr(limits, f"max_missing_{name}"), "rows")
    for name, view in views.items():
        bad = view.off_unit if evidence.normalized else view.not_finite + view.zero
        yield _share("off_unit_share", name, bad, view.vectors, limits.max_off_unit_share, "vectors")
    for name, view in views.items():
        what = "documents"
        yield _share("truncated_share", name, view.cut, view.vectors, limits.max_truncated_share, what, limits.min_rows)
    for name, view in views.items():
        yield from _collapse(name, view, evidence.spectra.get(name), limits)


def _collapse(name: str, view: ViewStatistics, sampled: Spectrum | None, limits: GateLimits) -> Iterator[GateResult]:
    cosine, rank = limits.max_mean_cosine, limits.min_rank_share
    if view.directions.count < limits.min_rows or sampled is None or sampled.rows < limits.min_rows:
        why = f"{view.directions.count} vectors: too few to judge"
        yield _skip("mean_cosine", name, cosine, why)
        yield _skip("rank_share", name, rank, why, at_least=True)
        return
    detail = f"all pairs of {view.directions.count:,} vectors"
    yield _most("mean_cosine", name, view.directions.mean_cosine, cosine, detail)
    detail = (
        f"effective rank {sampled.effective_rank:.1f} of {sampled.rows:,} vectors in {sampled.dimension} dimensions"
    )
    yield _least("rank_share", name, sampled.rank_share, rank, detail)


def _overlaps(evidence: Evidence, limits: GateLimits) -> Iterator[GateResult]:
    limit = limits.min_neighbour_overlap
    for name in evidence.statistics.views:
        if evidence.previous is None:
            yield _skip("neighbour_overlap", name, limit, "no release to compare with", at_least=True)
            continue
        overlap, items = evidence.overlaps.get(name, (0.0, 0))
        if items < max(limits.min_rows, limits.neighbours + 1):
            yield _skip("neighbour_overlap", name, limit, f"{items} sampled items in both: too few", at_least=True)
            continue
        detail = f"{limits.neighbours} nearest of {items:,} sampled items in both releases"
        yield _least("neighbour_overlap", name, overlap, limit, detail)


def _least(gate: str, subject: str, value: float, limit: float, detail: str) -> GateResult:
    state: State = "passed" if value >= limit else "failed"
    return GateResult(gate=gate, subject=subject, value=value, limit=limit, at_least=True, state=state, detail=detail)
