"""The bootstrap sees what is there, does not see what is not, and compares pairs."""

import numpy as np
import pytest

from recsys.bootstrap import paired_bootstrap


def test_the_interval_is_that_of_the_central_limit() -> None:
    rng = np.random.default_rng(0)
    baseline = (rng.random(20_000) < 0.07).astype(np.float64)
    ours = np.where(rng.random(20_000) < 0.01, 1.0, baseline)
    comparison = paired_bootstrap(ours, baseline)
    differences = ours - baseline
    error = differences.std() / 20_000**0.5
    assert comparison.difference == pytest.approx(differences.mean())
    assert comparison.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.15 * error)
    assert comparison.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.15 * error)
    assert comparison.significant
    assert comparison.p_value < 0.002


def test_pairs_are_kept() -> None:
    """The same values in another order differ as much in the mean, but not user by user."""
    rng = np.random.default_rng(1)
    baseline = (rng.random(2_000) < 0.5).astype(np.float64)
    ours = baseline.copy()
    ours[np.flatnonzero(baseline == 0)[:12]] = 1
    assert paired_bootstrap(ours, baseline).significant
    assert not paired_bootstrap(rng.permutation(ours), baseline).significant


def test_equal_results_are_equal() -> None:
    values = np.random.default_rng(2).random(50)
    comparison = paired_bootstrap(values, values)
    assert (comparison.difference, comparison.low, comparison.high, comparison.p_value) == (0, 0, 0, 1)
    assert not comparison.significant


def test_other_users_are_refused() -> None:
    with pytest.raises(ValueError, match="50 users against 49"):
        paired_bootstrap(np.zeros(50), np.zeros(49))
