"""What a run leaves undone, stage by stage: counted from its plan and its commits, without another listing."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.plan import NONE, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRemaining:
    """What one stage has left."""

    shards: int
    rows: int
    """Live items of those shards: an upper bound, since a stage may have some of their lines already."""


class Remaining:
    """Counts down from a plan.

    Args:
        plan: All that was pending when the run began.
        live: (S,) live items of each shard.
    """

    def __init__(self, plan: Plan, live: npt.NDArray[np.int64]) -> None:
        self._live = live
        self._left = {stage: target != NONE for stage, target in plan.targets.items()}
        self._had = np.any(list(self._left.values()), axis=0)

    def take(self, stages: Iterable[str], committed: Iterable[str]) -> None:
        """A phase is over: it committed these shards for these stages."""
        done = np.fromiter((int(shard_id) for shard_id in committed), dtype=np.int64)
        for stage in stages:
            if stage in self._left:
                self._left[stage][done] = False

    def shards_done(self) -> int:
        """Shards that had work and have none left."""
        return int(np.count_nonzero(self._had & ~np.any(list(self._left.values()), axis=0)))

    def of_stages(self) -> dict[str, StageRemaining]:
        """Stage to what it has left, for those that have something."""
        return {
            stage: StageRemaining(shards=int(left.sum()), rows=int(self._live[left].sum()))
            for stage, left in self._left.items()
            if left.any()
        }
