"""Lists equal a stable sort of all scores, ties included, and never hold the history."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.baselines import content_lists, popularity_lists
from recsys.ranking import ranks_in, recommend, top_items
from tests.recsys.data import split_of


def sorted_lists(scores: np.ndarray, k: int) -> list[list[int]]:
    return [sorted(range(scores.shape[1]), key=lambda item: (-row[item], item))[:k] for row in scores]


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(25, 1500),
    k=st.integers(1, 20),
    levels=st.sampled_from([1, 3, 40, 10**6]),
)
def test_top_items_equal_a_stable_sort(seed: int, items: int, k: int, levels: int) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (6, items)).astype(np.float32)
    assert top_items(torch.from_numpy(scores), k).tolist() == sorted_lists(scores, k)


def test_a_list_may_be_the_whole_catalogue() -> None:
    scores = np.array([[1, 3, 3, 0]], dtype=np.float32)
    assert top_items(torch.from_numpy(scores), 4).tolist() == [[1, 2, 0, 3]]


def test_histories_are_left_out_and_ranks_found() -> None:
    scores = torch.arange(1000.0).repeat(3, 1)
    histories = np.array([[999, 997, 1000], [0, 1000, 1000], [998, 999, 996]], dtype=np.int32)
    lists = recommend(lambda users: scores[users].clone(), histories, 3, batch_users=2)
    assert lists.tolist() == [[998, 996, 995], [999, 998, 997], [997, 995, 994]]
    assert ranks_in(lists, np.array([996, 0, 997], dtype=np.int32)).tolist() == [1, 3, 0]


def test_a_model_that_diverged_is_no_result() -> None:
    scores = torch.zeros(1, 100)
    scores[0, 40] = torch.nan
    with pytest.raises(ValueError, match="diverged"):
        recommend(lambda users: scores, np.array([[1]], dtype=np.int32), 5, batch_users=1)


def test_too_small_a_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        recommend(lambda users: torch.zeros(1, 20), np.array([[1]], dtype=np.int32), 20, batch_users=1)


def test_popularity_equals_a_count() -> None:
    split = split_of([[5, 3, 9, 1], [3, 5, 2, 0], [3, 8, 7], [30, 31, 32]], 40)
    # Training parts: 5 3 | 3 5 | 3 | 30, so 3 has three events, 5 two, 30 one, all others none.
    assert popularity_lists(split, "test", 4).tolist() == [[30, 0, 1, 2], [30, 0, 1, 4], [5, 30, 0, 1], [3, 5, 0, 1]]
    assert popularity_lists(split, "validation", 2)[2].tolist() == [5, 30]


def test_content_neighbours_equal_brute_force() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 5)).astype(np.float32)
    features[7] = 0
    split = split_of([rng.permutation(40)[: rng.integers(3, 9)].tolist() for _ in range(20)], 40)
    lists = content_lists(split, features, "test", 6, max_length=3, device=torch.device("cpu"))
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    for user in range(20):
        history = split.items[split.offsets[user] : split.offsets[user + 1] - 1]
        scores = unit @ unit[history[-3:]].sum(axis=0)
        scores[history] = -np.inf
        assert lists[user].tolist() == np.argsort(-scores, kind="stable")[:6].tolist()
