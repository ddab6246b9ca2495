"""What the driver says to Prometheus of its run, once a second, so that no row waits for a metric.

Queues are Ray Data's own metric, by operator, and each operator has its stage's name. What Ray Data says of pools
(2.60) is what they were when they last gave a block away: nothing of one that loads, or waits for a node.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.committer import Committer
from pipeline.limits import Limits
from pipeline.metrics import Metric, Publisher, Reading
from pipeline.node_bill import NodeBill
from pipeline.pool_watch import PoolWatch, PoolWorkers
from pipeline.progress import Snapshot
from pipeline.stats import RunStats, StageStats
from records.flow import FlowRow

ITEMS = Metric(
    name="reelscribe_items", help="Items that a stage made a result of", tags=("run_id", "stage"), counter=True
)
ERRORS = Metric(
    name="reelscribe_errors",
    help="Items that a stage, or one before it, could not do, by kind of failure",
    tags=("run_id", "stage", "kind"),
    counter=True,
)
STREAM_ERRORS = Metric(
    name="reelscribe_stream_errors",
    help="Failures of one stream in items that a stage made a result of, by kind",
    tags=("run_id", "stage", "kind"),
    counter=True,
)
BUSY_SECONDS = Metric(
    name="reelscribe_busy_seconds",
    help="Seconds in which a stage's workers were at work, summed over workers",
    tags=("run_id", "stage"),
    counter=True,
)
TOKENS = Metric(
    name="reelscribe_tokens",
    help="Tokens that a stage's model read (prompt) and wrote (output)",
    tags=("run_id", "stage", "direction"),
    counter=True,
)
WORKERS = Metric(
    name="reelscribe_workers",
    help="Workers of a stage: waiting for a node or their process, loading, idle without a block, or working",
    tags=("run_id", "stage", "state"),
)
GPU_HOURS = Metric(
    name="reelscribe_gpu_hours", help="GPUs that workers held so far, busy or not, times hours", tags=("run_id",)
)
ROWS = Metric(name="reelscribe_rows", help="Items that came back in this phase, whole", tags=("run_id",))
ROWS_EXPECTED = Metric(name="reelscribe_rows_expected", help="Items that this phase is to run", tags=("run_id",))
ROWS_OUT = Metric(
    name="reelscribe_rows_out", help="Items that were let into the graph and are not back", tags=("run_id",)
)
ROWS_UNSAVED = Metric(
    name="reelscribe_rows_unsaved",
    help="Items without failure that are back and neither committed nor journalled: what a kill would cost",
    tags=("run_id",),
)
SHARDS = Metric(name="reelscribe_shards", help="Shards committed in this phase", tags=("run_id",))
SHARDS_EXPECTED = Metric(
    name="reelscribe_shards_expected", help="Shards that have work in this phase", tags=("run_id",)
)
COMMIT_LAG = Metric(
    name="reelscribe_commit_lag_seconds",
    help="Since when the oldest shard that is not committed has items back",
    tags=("run_id",),
)
DRIVER_METRICS = (
    ITEMS, ERRORS, STREAM_ERRORS, BUSY_SECONDS, TOKENS, WORKERS, GPU_HOURS,
    ROWS, ROWS_EXPECTED, ROWS_OUT, ROWS_UNSAVED, SHARDS, SHARDS_EXPECTED, COMMIT_LAG,
)  # fmt: skip


def driver_readings(
    now: Snapshot,
    stages: Mapping[str, StageStats],
    pools: Mapping[str, PoolWorkers],
    limits: Limits,
    *,
    rows_unsaved: int,
    commit_lag_seconds: float,
) -> Iterator[Reading]:
    """What the driver knows of a run.

    Args:
        now: Where the phase stands.
        stages: The run's counters by stage; another thread may be counting on.
        pools: Workers by stage.
        limits: Knows what is on its way and which GPUs are held.
        rows_unsaved: Items back and not written anywhere.
        commit_lag_seconds: Age of the oldest shard that is under way.
    """
    for stage, stats in dict(stages).items():
        yield ITEMS, (stage,), stats.results
        yield BUSY_SECONDS, (stage,), stats.busy_seconds
        yield TOKENS, (stage, "prompt"), stats.prompt_tokens
        yield TOKENS, (stage, "output"), stats.output_tokens
        for metric, errors in ((ERRORS, stats.errors), (STREAM_ERRORS, stats.stream_errors)):
            for kind, count in dict(errors).items():
                yield metric, (stage, kind), count
    for stage, workers in pools.items():
        for state, number in dataclasses.asdict(workers).items():
            yield WORKERS, (stage, state), number
    yield GPU_HOURS, (), limits.gpu_hours_held
    yield ROWS, (), now.rows
    yield ROWS_EXPECTED, (), now.expected_rows
    yield ROWS_OUT, (), limits.rows_out
    yield ROWS_UNSAVED, (), rows_unsaved
    yield SHARDS, (), now.shards_done
    yield SHARDS_EXPECTED, (), now.shards
    yield COMMIT_LAG, (), commit_lag_seconds


@dataclass(slots=True)
class CommitLag:
    """When the first item of each shard under way came back. Told by one thread, asked by another."""

    clock: Callable[[], float] = time.monotonic
    _since: dict[str, float] = field(default_factory=dict)

    def arrived(self, line: FlowRow) -> None:
        """An item is back."""
        if line.shard_id not in self._since:
            self._since[line.shard_id] = self.clock()

    def seconds(self, committed: Container[str]) -> float:
        """Age of the oldest shard that is not among those committed; 0 where there is none."""
        for shard_id in list(self._since):  # in the order in which they began
            if shard_id not in committed:
                return self.clock() - self._since[shard_id]
            del self._since[shard_id]
        return 0.0


@dataclass(slots=True, kw_only=True)
class PhaseMetrics:
    """Watches one phase and publishes what the driver knows of it."""

    publisher: Publisher
    stats: RunStats
    pools: PoolWatch
    limits: Limits
    bill: NodeBill | None
    _lag: CommitLag = field(default_factory=CommitLag)

    def row(self, line: FlowRow) -> None:
        """An item came back for the first time."""
        self.stats.add_row(line)
        self._lag.arrived(line)

    def tick(
        self,
        look: Callable[[], Snapshot],
        committer: Committer,
        draw: Callable[[Callable[[], Snapshot]], None] = lambda look: None,
    ) -> None:
        """Shows where the phase stands, to who watches and to Prometheus.

        Args:
            look: Gives where it stands now. Display and publisher ask it, inside the guards that hold what it raises.
            committer: Knows what is not saved yet.
            draw: Shows it.
        """
        look = functools.cache(look)
        draw(look)
        if self.bill is not None:
            self.bill.look()
        self.publisher.publish(self._readings(look, committer))

    def _readings(self, look: Callable[[], Snapshot], committer: Committer) -> Iterator[Reading]:
        """A generator, so that nothing of it runs before the publisher asks."""
        yield from driver_readings(
            look(),
            self.stats.stages,
            self.pools.workers(),
            self.limits,
            rows_unsaved=len(committer.in_memory),
            commit_lag_seconds=self._lag.seconds(committer.committed),
        )
