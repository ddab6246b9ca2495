"""Vectors land on their items, standardised; what is wrong with them is refused or counted."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from records.errors import UserError
from recsys.catalogue import Catalogue
from recsys.features import Vectors, align, joined

CATALOGUE = Catalogue.of(["a", "b", "c", "d", "e"], "here")


def vectors(ids: list[str], values: npt.NDArray[Any], present: list[bool] | None = None) -> Vectors:
    return Vectors(
        name="clap", item_ids=ids, values=values, present=None if present is None else np.array(present, dtype=bool)
    )


def test_vectors_are_put_in_order_and_standardised() -> None:
    values = np.array([[1, 5, 0], [3, 5, 1], [5, 5, 5]], dtype=np.float16)
    features = align(vectors(["d", "a", "nobody"], values), CATALOGUE)
    assert features.values.dtype == np.float32
    assert features.values.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0], [-1, 0, -1], [0, 0, 0]]
    assert features.present.tolist() == [True, False, False, True, False]
    report = features.report
    assert (report.dim, report.items, report.missing, report.not_finite, report.unknown) == (3, 2, 3, 0, 1)


def test_vectors_that_are_not_finite_count_as_missing() -> None:
    values = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    clean = align(vectors(["a", "b", "c"], values[:3]), CATALOGUE)
    values[3, 1], values[4, 0] = np.nan, -np.inf
    features = align(vectors(["a", "b", "c", "d", "e"], values), CATALOGUE)
    assert (features.report.items, features.report.missing, features.report.not_finite) == (3, 2, 2)
    np.testing.assert_array_equal(features.values, clean.values)


def test_missing_vectors_do_not_count_in_the_mean() -> None:
    values = np.array([[1.0], [3.0], [0.0]])
    features = align(vectors(["a", "b", "c"], values, [True, True, False]), CATALOGUE)
    assert features.values[:, 0].tolist() == [-1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        (["a", "b"], np.zeros((3, 2)), "3 vectors for 2 ids"),
        (["a", "b"], np.zeros(2), r"not float64 \(2,\)"),
        (["a", "b"], np.zeros((2, 0)), r"not float64 \(2, 0\)"),
        (["a", "b"], np.zeros((2, 3, 1)), r"not float64 \(2, 3, 1\)"),
        (["a", "b"], np.zeros((2, 3), dtype=np.int64), "must be floats"),
        (["a", "a"], np.zeros((2, 3)), "1 items have several vectors, such as a"),
        (["x", "y"], np.ones((2, 3)), "names x, y, the catalogue has a, b, c"),
        (["a"], np.full((1, 3), np.nan), "no item of the catalogue has a vector"),
    ],
)
def test_what_is_wrong_is_named(ids: list[str], values: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        align(vectors(ids, values), CATALOGUE)


def test_sources_stand_side_by_side() -> None:
    one = align(vectors(["a", "b"], np.array([[1.0], [2.0]])), CATALOGUE)
    two = align(vectors(["b", "c"], np.array([[1.0, 2.0], [2.0, 0.0]])), CATALOGUE)
    both = joined([one, two])
    assert both is not None
    np.testing.assert_array_equal(both, np.concatenate([one.values, two.values], axis=1))
    assert joined([]) is None
