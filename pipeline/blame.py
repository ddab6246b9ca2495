"""Finds the rows that kill their workers, from what was lost while rows ran one by one."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.reader import ShardReader
from pipeline.tasks import Presets, Tasks
from records.errors import Failure, FailureKind

logger = logging.getLogger(__name__)

STRIKES = 2
"""How often a row must be lost alone in one stage before it is blamed: a node may die under an innocent one."""

_Key = tuple[str, int]


@dataclass(slots=True)
class Blame:
    """Counts how often each row was lost alone, and where."""

    presets: Presets = field(default_factory=dict)
    """Failures of the rows that are to blame: they are not run again."""
    _strikes: Counter[tuple[str, _Key, str]] = field(default_factory=Counter)

    def strike(self, lost: Tasks, reader: ShardReader, running: Mapping[tuple[str, str, int], str]) -> None:
        """Takes what a pass lost.

        Args:
            lost: The shards that did not come back whole.
            reader: Reads their lines.
            running: Shard, item and version to the stage that the row entered last.
        """
        for task in lost:
            for line in reader.lines(task):
                stage = running.get((task.shard_id, *line.item.key))
                if stage is None:
                    continue
                self._strikes[task.shard_id, line.item.key, stage] += 1
                if self._strikes[task.shard_id, line.item.key, stage] == STRIKES:
                    logger.error("shard_id=%s video_id=%s kills %s", task.shard_id, line.item.video_id, stage)
                    message = f"the worker of {stage} died each time it ran this item"
                    failure = Failure(
                        stage=stage, kind=FailureKind.WORKER_CRASHED, message=message, attempts=STRIKES + 1
                    )
                    self.presets.setdefault(task.shard_id, {}).setdefault(line.item.key, {})[stage] = failure
