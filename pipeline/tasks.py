"""The shards of one pass over a plan, each made into a task only when somebody asks for it."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pipeline.plan import NONE, Plan, ShardTask
from records.errors import Failure
from storage.catalog import Catalog

Key = tuple[str, int]
Presets = dict[str, dict[Key, dict[str, Failure]]]
"""Shard to item to stage to the failure that stands for running it."""


def _none(shard_id: str) -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tasks:
    """Shards of a plan in the order in which they run. Holds one integer a shard."""

    plan: Plan
    indices: npt.NDArray[np.int64]
    """Numbers of the shards."""
    arrived: Callable[[str], int] = _none
    """Shard to its items that need not be issued, as `ShardTask.skip`."""
    empty: npt.NDArray[np.bool_] | None = None
    """(S,) whether a shard of the catalog holds nothing but empty files: what comes of their bytes is known."""
    presets: Mapping[str, Mapping[Key, Mapping[str, Failure]]] = field(default_factory=dict)
    """Outcomes that stand before anything runs, for the few shards that have some."""
    items: npt.NDArray[np.int64] | None = None
    """(S,) live items of each shard of the catalog."""

    @classmethod
    def of(cls, plan: Plan, catalog: Catalog, arrived: Callable[[str], int]) -> "Tasks":
        """All shards of a plan over a catalog."""
        empty, items = catalog.files.empty(), catalog.live_counts()
        return cls(plan=plan, indices=plan.order, arrived=arrived, empty=empty, items=items)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[ShardTask]:
        for index in self.indices.tolist():
            task = self.plan.task(index)
            skip, preset = self.arrived(task.shard_id), self.presets.get(task.shard_id)
            yield replace(task, skip=skip, preset=preset or {}) if skip or preset else task

    def groups(self, *, shards: int, rows: int) -> Iterator[list[ShardTask]]:
        """What is read together, in order: shards of which little is left, so that a block is not one row of each.

        Args:
            shards: Least shards in a group.
            rows: Least rows, as far as they are known: a shard of which nothing has arrived has enough.
        """
        group, found = list[ShardTask](), 0
        for task in self:
            group.append(task)
            found += self._left(task) or rows
            if len(group) >= shards and found >= rows:
                yield group
                group, found = [], 0
        if group:
            yield group

    def _left(self, task: ShardTask) -> int:
        """Rows of a shard that come at least, where some have arrived; else 0."""
        if not task.skip or self.items is None:
            return 0
        return max(1, int(self.items[int(task.shard_id)]) - task.skip.bit_count())

    def stages(self) -> set[str]:
        """The stages that are pending in some of the shards."""
        return {stage for stage, of in self.plan.targets.items() if bool((of[self.indices] != NONE).any())}

    def split(self, stages: Collection[str]) -> "tuple[Tasks, Tasks]":
        """The shards in which one of these stages, of media, is pending and has bytes to look at, and the others."""
        found = np.zeros(len(self.indices), dtype=bool)
        for stage in stages:
            if stage in self.plan.targets:
                found |= self.plan.targets[stage][self.indices] != NONE
        if self.empty is not None:
            found &= ~self.empty[self.indices]
        return replace(self, indices=self.indices[found]), replace(self, indices=self.indices[~found])

    def where(self, wanted: Callable[[str], bool]) -> "Tasks":
        """Those of the shards whose id is wanted."""
        ids = self.plan.shard_ids
        kept = [index for index in self.indices.tolist() if wanted(ids[index])]
        return replace(self, indices=np.asarray(kept, dtype=np.int64))
