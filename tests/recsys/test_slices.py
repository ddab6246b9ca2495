"""Slices hold the users whose target is cold, or long."""

import numpy as np

from recsys.slices import SliceConfig, target_slices

TARGETS = np.array([0, 1, 2, 3, 0], dtype=np.int32)
COUNTS = np.array([0, 4, 5, 90], dtype=np.int64)


def test_targets_are_told_apart_by_count_and_duration() -> None:
    durations = np.array([12.0, 30.0, np.nan, 30.01])
    slices = target_slices(TARGETS, COUNTS, durations, SliceConfig())
    assert {name: np.flatnonzero(users).tolist() for name, users in slices.items()} == {
        "all": [0, 1, 2, 3, 4],
        "unseen": [0, 4],
        "cold": [0, 1, 4],
        "long": [3],
        "short": [0, 1, 4],
    }


def test_without_durations_there_is_no_long_slice() -> None:
    assert set(target_slices(TARGETS, COUNTS, None, SliceConfig(cold_below=1))) == {"all", "unseen", "cold"}
