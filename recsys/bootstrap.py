"""Is one way better than another, or is it the users we happened to have? A paired bootstrap over users."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

RESAMPLES = 2000
CONFIDENCE = 0.95
_BATCH_VALUES = 2**22
"""Resampled values in memory at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The difference of two means over the same users."""

    difference: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    p_value: float
    """Two-sided; at least 1 / (resamples + 1)."""

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    ours: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64], *, seed: int = 0, resamples: int = RESAMPLES
) -> Comparison:
    """Compares two ways on the same users, by resampling users (Efron's percentile interval, scipy.stats.bootstrap).

    Args:
        ours: (U,) each user's measure, for example the mean of its hits over seeds.
        baseline: (U,) the same of the other way, users in the same order.
        seed: Of the resamples.
        resamples: How many.

    Raises:
        ValueError: The lengths differ.
    """
    if ours.shape != baseline.shape:
        raise ValueError(f"{len(ours)} users against {len(baseline)}: a paired comparison needs the same ones")
    differences = ours - baseline
    difference = float(differences.mean())
    if np.ptp(differences) == 0:
        return Comparison(
            difference=difference, low=difference, high=difference, p_value=1.0 if not difference else 0.0
        )
    result = stats.bootstrap(
        (differences,),
        np.mean,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BATCH_VALUES // len(differences)),
        confidence_level=CONFIDENCE,
        method="percentile",  # BCa's jackknife would need users² values
        rng=np.random.default_rng(seed),
    )
    means = result.bootstrap_distribution
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return Comparison(
        difference=difference,
        low=float(result.confidence_interval.low),
        high=float(result.confidence_interval.high),
        p_value=min(1.0, 2 * (tail + 1) / (resamples + 1)),
    )
