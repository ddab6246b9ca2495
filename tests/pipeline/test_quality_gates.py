"""Each gate passes what keeps to its limit and fails what does not, with its number."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.quality_gates import Evidence, GateLimits, GateResult, failed, judge, language_shift
from pipeline.quality_stats import ReleaseStatistics, TextStatistics, ViewStatistics
from pipeline.sketches import Distinct, Lengths, Repeats
from pipeline.vector_quality import spectrum, unit_rows
from records.releases import VIEWS

ROWS = 200


def view(**changes: Any) -> ViewStatistics:  # noqa: ANN401 - the statistics' fields
    vectors = unit_rows(np.random.default_rng(0).normal(size=(ROWS, 16)))
    return replace(ViewStatistics.of(vectors, {}, 0), **changes)


def text(characters: int = 100, **changes: Any) -> TextStatistics:  # noqa: ANN401 - as above
    lengths = np.full(ROWS, characters, dtype=np.int64)
    return replace(TextStatistics.of(lengths, lengths > 0, 0), **changes)


GOOD = ReleaseStatistics(
    rows=ROWS,
    failed_rows={"caption": 0, "embed": 0},
    texts={"caption": text(), "transcript": text(), "audio_description": text()},
    languages={"en": 100, "de": 100},
    captions=Distinct.of(range(ROWS)),
    views={name: view() for name in VIEWS},
)
GOOD_SPECTRUM = spectrum(unit_rows(np.random.default_rng(1).normal(size=(ROWS, 16))))
LINE = spectrum(np.tile(unit_rows(np.ones((1, 16))), (ROWS, 1)))


def evidence(**changes: Any) -> Evidence:  # noqa: ANN401 - the evidence's fields
    good = Evidence(
        statistics=GOOD,
        spectra=dict.fromkeys(VIEWS, GOOD_SPECTRUM),
        overlaps=dict.fromkeys(VIEWS, (0.9, ROWS)),
        previous=GOOD,
    )
    return replace(good, **changes)


def with_view(name: str, **changes: Any) -> Evidence:  # noqa: ANN401 - the statistics' fields
    return evidence(statistics=replace(GOOD, views={**GOOD.views, name: view(**changes)}))


def with_text(name: str, changed: TextStatistics) -> Evidence:
    return evidence(statistics=replace(GOOD, texts={**GOOD.texts, name: changed}))


def with_all(**changes: Any) -> Evidence:  # noqa: ANN401 - the statistics' fields
    return evidence(statistics=replace(GOOD, **changes))


FAILURES: dict[str, tuple[Evidence, float]] = {
    "error_share.caption": (with_all(failed_rows={"caption": 11, "embed": 10}), 0.055),
    "empty_share.caption": (with_text("caption", text(empty=5)), 0.025),
    "empty_share.transcript": (with_text("transcript", text(empty=5)), 0.025),
    "empty_share.audio_description": (with_text("audio_description", text(empty=5)), 0.025),
    "truncated_share.caption": (with_text("caption", text(truncated=21)), 0.105),
    "truncated_share.audio_description": (with_text("audio_description", text(truncated=21)), 0.105),
    "repeated_share.caption": (with_all(captions=Distinct.of(number % 179 for number in range(ROWS))), 0.105),
    "one_caption_share.caption": (with_all(repeats=Repeats(counts={"no": 5})), 0.025),
    "uncertain_language_share": (with_all(uncertain_languages=101), 0.505),
    "language_shift": (with_all(languages={"en": 132, "de": 68}), 0.16),
    "length_change.caption": (with_text("caption", text(131)), 0.31),
    "missing.video": (with_view("video", missing={"corrupt": 50}), 0.2),
    "missing.audio": (with_view("audio", missing={"no_audio": 600}), 0.75),
    "missing.all": (with_view("all", missing={"corrupt": 50}), 0.2),
    "off_unit_share.video": (with_view("video", off_unit=1), 0.005),
    "truncated_share.metadata": (with_view("metadata", cut=21), 0.105),
    "mean_cosine.audio": (
        with_view("audio", directions=ViewStatistics.of(np.tile(np.eye(2)[:1], (ROWS, 1)), {}, 0).directions),
        1.0,
    ),
    "rank_share.all": (evidence(spectra={**dict.fromkeys(VIEWS, GOOD_SPECTRUM), "all": LINE}), 1 / 16),
    "neighbour_overlap.all": (evidence(overlaps={**dict.fromkeys(VIEWS, (0.9, ROWS)), "all": (0.4, ROWS)}), 0.4),
}
LIMITS = GateLimits(min_rank_share=0.1)


def by_name(results: list[GateResult]) -> dict[str, GateResult]:
    named = {result.name: result for result in results}
    assert len(named) == len(results)
    return named


def test_what_is_good_passes_every_gate() -> None:
    results = judge(evidence(), LIMITS)
    assert {result.state for result in results} == {"passed"}
    assert failed(results) == []
    assert by_name(results).keys() >= FAILURES.keys()


@pytest.mark.parametrize("name", FAILURES)
def test_one_bad_number_fails_its_gate_alone(name: str) -> None:
    bad, value = FAILURES[name]
    results = judge(bad, LIMITS)
    assert [result.name for result in failed(results)] == [name]
    (result,) = failed(results)
    assert result.value == pytest.approx(value, abs=1e-6)
    assert f"{name} is {result.value:.4g}" in result.says()


@pytest.mark.parametrize("name", FAILURES)
def test_a_limit_at_the_number_passes(name: str) -> None:
    bad, _ = FAILURES[name]
    (result,) = failed(judge(bad, LIMITS))
    assert result.value is not None
    changed: dict[str, Any] = {result.setting: result.value}
    assert failed(judge(bad, replace(LIMITS, **changed))) == []


def test_vectors_that_need_not_be_units_must_be_finite_and_not_zero() -> None:
    long = with_view("all", off_unit=ROWS)
    assert failed(judge(replace(long, normalized=False), LIMITS)) == []
    for broken in ({"not_finite": 1}, {"zero": 1}):
        bad = replace(with_view("all", **broken), normalized=False)
        assert [result.name for result in failed(judge(bad, LIMITS))] == ["off_unit_share.all"]


def test_a_first_release_skips_what_compares_and_says_why() -> None:
    results = by_name(judge(evidence(previous=None, overlaps={}), LIMITS))
    skipped = {name for name, result in results.items() if result.state == "skipped"}
    assert skipped == {"language_shift", "length_change.caption", *(f"neighbour_overlap.{name}" for name in VIEWS)}
    assert results["language_shift"].detail == "no release to compare with"
    assert results["language_shift"].value is None


def test_few_rows_are_judged_by_errors_and_missing_views_alone() -> None:
    limits = replace(LIMITS, min_rows=ROWS + 1)
    judged = {result.gate for result in judge(evidence(), limits) if result.state != "skipped"}
    assert judged == {"error_share", "missing", "off_unit_share"}


def test_a_number_that_is_none_fails() -> None:
    bad = with_text("caption", text(lengths=Lengths(count=ROWS, total=0)))
    assert "length_change.caption" in {result.name for result in failed(judge(bad, LIMITS))}


@pytest.mark.parametrize(
    "wrong", [{"max_error_share": 1.5}, {"max_missing_all": -0.1}, {"min_rows": 0}, {"max_mean_cosine": float("nan")}]
)
def test_limits_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GateLimits(**wrong)


mixes = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 100), min_size=1)


@given(one=mixes, other=mixes)
def test_language_shift_is_a_distance(one: dict[str, int], other: dict[str, int]) -> None:
    assert language_shift(one, one) == 0.0
    assert language_shift(one, other) == pytest.approx(language_shift(other, one))
    assert 0.0 <= language_shift(one, other) <= 1.0 + 1e-12
    assert (language_shift(one, other) > 1 - 1e-9) == (not one.keys() & other.keys())
