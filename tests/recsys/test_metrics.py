"""Every measure equals brute force, and nDCG scikit-learn's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from recsys.measure import measure
from recsys.metrics import coverage, gains, hits, popularity_lift, recommended_popularity
from tests.recsys.data import split_of


@given(ranks=st.lists(st.integers(0, 40), min_size=1, max_size=30), k=st.integers(1, 25))
def test_hits_and_gains_equal_brute_force(ranks: list[int], k: int) -> None:
    assert hits(np.array(ranks), k).tolist() == [1.0 if rank in range(k) else 0.0 for rank in ranks]
    expected = [1 / math.log2(rank + 2) if rank < k else 0.0 for rank in ranks]
    assert gains(np.array(ranks), k).tolist() == pytest.approx(expected, rel=1e-15)


@given(rank=st.integers(0, 19), k=st.integers(1, 20))
def test_gains_equal_scikit_learn(rank: int, k: int) -> None:
    relevance = np.zeros((1, 20))
    relevance[0, rank] = 1
    scores = -np.arange(20.0)[None]
    assert gains(np.array([rank]), k).mean() == pytest.approx(ndcg_score(relevance, scores, k=k))


lists_of_items = st.lists(st.permutations(range(8)).map(lambda items: list(items[:3])), min_size=1, max_size=10)


@given(
    lists=lists_of_items,
    counts=st.lists(st.integers(0, 9), min_size=8, max_size=8),
    histories=st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=4), min_size=1, max_size=10),
)
def test_coverage_and_popularity_equal_brute_force(
    lists: list[list[int]], counts: list[int], histories: list[list[int]]
) -> None:
    assert coverage(np.array(lists), 8) == len({item for one in lists for item in one}) / 8
    arp = sum(sum(counts[item] for item in one) / 3 for one in lists) / len(lists)
    assert recommended_popularity(np.array(lists), np.array(counts)) == pytest.approx(arp)
    padded = np.array([one + [8] * (4 - len(one)) for one in histories])
    watched = sum(sum(counts[item] for item in one) / len(one) for one in histories) / len(histories)
    lift = popularity_lift(np.array(lists), padded, np.array([len(one) for one in histories]), np.array(counts))
    assert lift == pytest.approx((arp - watched) / watched) if watched else math.isnan(lift)


def test_a_result_by_hand() -> None:
    split = split_of([[0, 1, 2, 3], [1, 4, 0]], 25)
    lists = np.stack([np.roll(np.arange(25), -3)[:20], np.roll(np.arange(25), -12)[:20]]).astype(np.int32)
    result = measure(lists, split, "test")
    assert result.ranks.tolist() == [0, 13]
    assert [one.hit_rate for one in result.cutoffs] == [0.5, 1.0]
    assert [one.ndcg for one in result.cutoffs] == pytest.approx([0.5, 0.5 + 0.5 / math.log2(15)])
    assert [one.coverage for one in result.cutoffs] == [19 / 25, 1.0]
