"""Collapse and neighbours, held against numpy's and scikit-learn's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from pipeline.vector_quality import Floats, neighbour_overlap, neighbours, spectrum, unit_rows


def units(rows: int, dimension: int, seed: int) -> Floats:
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, dimension)))


@settings(deadline=None)
@given(rows=st.integers(1, 40), dimension=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_singular_values_are_numpys(rows: int, dimension: int, seed: int) -> None:
    matrix = units(rows, dimension, seed)
    expected = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(spectrum(matrix).singular_values, expected, atol=1e-6 * expected[0] * np.sqrt(rows))
    shares = expected[expected > 1e-12] / expected.sum()
    assert spectrum(matrix).effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)


def test_effective_rank_says_how_many_directions_there_are() -> None:
    line = np.tile(units(1, 50, 0), (200, 1))
    assert spectrum(line).effective_rank == pytest.approx(1.0, abs=1e-3)
    axes = np.eye(50)[np.arange(200) % 10]
    assert spectrum(axes).effective_rank == pytest.approx(10.0, abs=1e-3)
    assert spectrum(units(5000, 50, 1)).rank_share > 0.95
    assert spectrum(np.zeros((3, 4))).effective_rank == 0.0
    assert spectrum(np.zeros((0, 0))).rank_share == 0.0


def test_zero_and_infinite_vectors_become_zero() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
    assert unit_rows(vectors).tolist() == [[0.6, 0.8], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 60), seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12))
def test_neighbours_are_scikit_learns(rows: int, seed: int, k: int) -> None:
    matrix = units(rows, 8, seed)
    found, cosines = neighbours(matrix, k)
    assert found.shape == cosines.shape == (rows, min(k, rows - 1))
    if rows > 1:
        search = NearestNeighbors(n_neighbors=min(k, rows - 1), metric="cosine", algorithm="brute").fit(matrix)
        distances, expected = search.kneighbors()
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(cosines, 1 - distances, atol=1e-9)


def test_neighbours_over_several_blocks_and_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = units(50, 8, 3)
    whole = neighbours(matrix, 5)
    monkeypatch.setattr("pipeline.vector_quality._BLOCK_ROWS", 7)
    for one, other in zip(neighbours(matrix, 5), whole, strict=True):
        np.testing.assert_array_equal(one, other)
    same = np.tile(units(1, 8, 0), (4, 1))
    assert neighbours(same, 2)[0].tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_overlap_counts_the_neighbours_in_both() -> None:
    one = units(100, 8, 1)
    assert neighbour_overlap(one, one, 10) == 1.0
    assert neighbour_overlap(one, one @ np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0], 10) == 1.0
    assert neighbour_overlap(one, units(100, 5, 2), 10) < 0.25
    assert neighbour_overlap(one[:1], one[:1], 10) == 1.0
    ours, theirs = neighbours(one, 3)[0], neighbours(units(100, 8, 9), 3)[0]
    expected = np.mean([len(set(a) & set(b)) / 3 for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)])
    assert neighbour_overlap(one, units(100, 8, 9), 3) == pytest.approx(expected)
