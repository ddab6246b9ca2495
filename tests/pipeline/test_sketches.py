"""Statistics that add up: any way of cutting the data gives what a look at all of it gives."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import sketches
from pipeline.sketches import Directions, Distinct, Lengths, Repeats, add_counts, hash64, length_edges

words = st.lists(st.sampled_from([f"w{number}" for number in range(60)]), max_size=200)
cuts = st.lists(st.integers(0, 200), max_size=4)


def parts(values: list[str], at: list[int]) -> list[list[str]]:
    ends = sorted({min(place, len(values)) for place in at} | {len(values)})
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(lengths=st.lists(st.integers(1, 10**6), max_size=100), at=cuts)
def test_lengths(lengths: list[int], at: list[int]) -> None:
    whole = Lengths.of(np.asarray(lengths, dtype=np.int64))
    merged = Lengths()
    for part in parts([str(one) for one in lengths], at):
        merged = merged.merged(Lengths.of(np.asarray([int(one) for one in part], dtype=np.int64)))
    assert merged == whole
    assert (whole.count, whole.total, whole.longest) == (len(lengths), sum(lengths), max(lengths, default=0))
    assert whole.mean == pytest.approx(np.mean(lengths) if lengths else 0.0)
    expected, _ = np.histogram(np.minimum(lengths, length_edges()[-1] * 0.999), bins=length_edges())
    assert list(whole.bins) == expected.tolist()


@given(values=words, at=cuts)
def test_distinct_is_exact_while_it_keeps_all(values: list[str], at: list[int]) -> None:
    merged = Distinct()
    for part in parts(values, at):
        merged = merged.merged(Distinct.of(map(hash64, part)))
    assert merged == Distinct.of(map(hash64, values))
    assert merged.distinct == len(set(values))


def test_distinct_is_close_where_it_does_not_and_the_cut_does_not_matter() -> None:
    hashes = [hash64(str(number % 60_000)) for number in range(90_000)]
    whole = Distinct.of(hashes)
    merged = Distinct()
    for start in range(0, len(hashes), 7_001):
        merged = merged.merged(Distinct.of(hashes[start : start + 7_001]))
    assert merged == whole
    assert len(whole.hashes) == sketches.DISTINCT_HASHES
    assert whole.distinct == pytest.approx(60_000, rel=4 / sketches.DISTINCT_HASHES**0.5)


@settings(deadline=None)
@given(values=words, at=cuts, kept=st.integers(1, 30))
def test_repeats_miss_no_more_than_they_say(values: list[str], at: list[int], kept: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketches, "REPEATS_KEPT", kept)
        merged = Repeats()
        for part in parts(values, at):
            merged = merged.merged(Repeats.of(part))
    true = Counter(values)
    assert len(merged.counts) <= kept
    assert merged.missed <= len(values) / (kept + 1)
    for value, count in true.items():
        assert count - merged.missed <= merged.counts.get(value, 0) <= count


def test_repeats_name_the_most_frequent_first() -> None:
    repeats = Repeats.of(["b", "a", "b", "c", "a", "b"])
    assert repeats.top(5) == [("b", 3), ("a", 2)]
    assert repeats.top(1) == [("b", 3)]


@given(
    rows=st.integers(0, 30),
    dimension=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    at=cuts,
)
def test_the_mean_cosine_is_that_of_all_pairs(rows: int, dimension: int, seed: int, at: list[int]) -> None:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if rows else vectors
    merged, start = Directions(), 0
    for part in parts([""] * rows, at):
        merged = merged.merged(Directions.of(units[start : start + len(part)]))
        start += len(part)
    pairs = (units @ units.T)[np.triu_indices(rows, 1)]
    assert merged.mean_cosine == pytest.approx(pairs.mean() if rows > 1 else 0.0, abs=1e-9)


def test_directions_of_different_dimensions_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="zip"):
        Directions.of(np.ones((1, 2))).merged(Directions.of(np.ones((1, 3))))


def test_counts_add_up_and_hashes_stay() -> None:
    assert add_counts({"b": 1}, {"a": 2, "b": 3}) == {"a": 2, "b": 4}
    assert hash64("clip") == 0xE08A470FDBF733D3, "samples of old releases hang on it"
