"""Measures of ranked lists, as pure functions of ranks and lists.

Ranks start at 0; a rank of K or more is not among the first K. With one target a user, HR@K is the share of users whose
target is among the first K, and nDCG@K the mean of 1 / log2(rank + 2) there and 0 elsewhere, the ideal list having a
DCG of 1 (Järvelin and Kekäläinen 2002).
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]


def hits(ranks: Integers, k: int) -> Floats:
    """(U,) 1 where the target is among the first `k`, else 0: HR@K is its mean."""
    return (ranks < k).astype(np.float64)


def gains(ranks: Integers, k: int) -> Floats:
    """(U,) each user's nDCG at `k`: nDCG@K is its mean."""
    return np.where(ranks < k, 1.0 / np.log2(ranks + 2.0), 0.0)


def coverage(lists: Integers, item_count: int) -> float:
    """Share of the catalogue that is in somebody's list.

    Args:
        lists: (U, K) indices of items.
        item_count: Size of the catalogue.
    """
    return len(np.unique(lists)) / item_count


def recommended_popularity(lists: Integers, training_counts: Integers) -> float:
    """Mean training count of what is recommended (ARP, Yin et al. 2012): over each list, then over users."""
    return float(training_counts[lists].mean())


def popularity_lift(lists: Integers, histories: Integers, lengths: Integers, training_counts: Integers) -> float:
    """How much more popular than their histories the users' lists are (Abdollahpouri et al. 2020).

    Args:
        lists: (U, K) indices of items.
        histories: (U, L) indices of items, anything behind a history's end.
        lengths: (U,) lengths of the histories, above 0.
        training_counts: (N,) how often each item occurs in training.

    Returns:
        (mean count over lists - mean count over histories) / mean count over histories, each user's mean first; 0 is no
        bias. NaN where no item of any history occurs in training.
    """
    real = np.arange(histories.shape[1]) < lengths[:, None]
    counts = np.where(real, training_counts[np.where(real, histories, 0)], 0)
    watched = float((counts.sum(axis=1) / lengths).mean())
    return (recommended_popularity(lists, training_counts) - watched) / watched if watched else math.nan
