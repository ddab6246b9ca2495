"""Decides what runs again after a pass over the graph, and how; no Ray."""

import logging
from dataclasses import dataclass, field

from pipeline.blame import STRIKES, Blame
from pipeline.gate import PassSeen
from pipeline.reader import ShardReader
from pipeline.tasks import Presets, Tasks
from records.errors import FatalError

logger = logging.getLogger(__name__)

UNREAD_TRIES = 3
"""How often shards that nobody read, since their task was lost or the store failed, are run as before."""


@dataclass(slots=True, kw_only=True)
class Rerun:
    """Shards that were never let in run as before, the others one row a block: what kills a worker then is its row.

    After a pass that was given up all of them run as before. A row lost twice alone in one stage is what kills that
    stage's workers.
    """

    stages: int
    """Number of stages, each of which may have a row that kills its workers."""
    _blame: Blame = field(default_factory=Blame)
    _let_in: set[str] = field(default_factory=set)
    _passes: int = 0
    """That were not given up."""
    _one_by_one: bool = False

    @property
    def presets(self) -> Presets:
        """Failures of the rows that are to blame: they are not run again."""
        return self._blame.presets

    def after(self, lost: Tasks, seen: PassSeen, reader: ShardReader, *, gave_up: bool) -> tuple[Tasks, bool]:
        """The shards to run next, and whether their rows run one by one.

        Args:
            lost: What has not come back whole; not empty.
            seen: What the gate saw of the last pass.
            reader: Reads the lines of shards.
            gave_up: Whether the last pass was given up.

        Raises:
            FatalError: They never came back, however often they ran.
        """
        self._let_in.update(seen.issued)
        if self._one_by_one and not gave_up:
            self._blame.strike(lost, reader, seen.running)
        unread = lost if gave_up else lost.where(lambda shard_id: shard_id not in self._let_in)
        again = gave_up or (len(unread) > 0 and self._passes < UNREAD_TRIES)
        if self._passes > STRIKES * self.stages or (not again and len(unread) == len(lost)):
            first = lost.plan.shard_ids[int(lost.indices[0])]
            died = "the process that read it died each time" if len(unread) == len(lost) else "its rows were lost"
            why = next(iter(seen.unread.values()), died)
            raise FatalError(f"shard {first} and {len(lost) - 1} others never came back whole ({why})")
        self._passes += not gave_up  # nodes may go as often as they like
        self._one_by_one = not again
        how = f"the {len(unread)} of them that were not read" if again else "their lost rows one by one"
        logger.warning("%d shards did not come back whole, running %s", len(lost), how)
        return (unread if again else lost), self._one_by_one
