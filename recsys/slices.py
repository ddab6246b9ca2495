"""Slices of the users by their target: what a model is worth on cold items and on long ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys.interactions import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceConfig:
    """Where slices begin.

    Raises:
        ValueError: A number is out of its range.
    """

    cold_below: int = 5
    """A target with fewer training events than this is cold."""
    long_seconds: float = 30.0
    """A target that lasts longer is long: where the paper says its gain is largest."""

    def __post_init__(self) -> None:
        if self.cold_below < 1 or self.long_seconds < 0:
            raise ValueError("slices: cold_below must be at least 1 and long_seconds at least 0")


def target_slices(
    targets: Ints,
    training_counts: npt.NDArray[np.int64],
    durations_seconds: npt.NDArray[np.float64] | None,
    config: SliceConfig,
) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Name of each slice and its users.

    Args:
        targets: (U,) the item that is to be found.
        training_counts: (N,) training events of each item.
        durations_seconds: (N,) NaN where unknown; None where no item's is known.
        config: Where slices begin.

    Returns:
        `all`; `unseen` (target without a training event), `cold` (fewer than `cold_below`) and, with durations, `long`
        (longer than `long_seconds`) and `short` (not longer). Whose target's duration is unknown is in neither.
    """
    counts = training_counts[targets]
    slices = {
        "all": np.ones(len(targets), dtype=bool),
        "unseen": counts == 0,
        "cold": counts < config.cold_below,
    }
    if durations_seconds is not None:
        seconds = durations_seconds[targets]
        slices["long"] = seconds > config.long_seconds
        slices["short"] = seconds <= config.long_seconds
    return slices
