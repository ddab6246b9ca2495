"""One phase of a run: rows through the graph into the committer, and what did not come back once more, one by one."""

import contextlib
import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import ray
from ray.data import Dataset

from pipeline.committer import Committer
from pipeline.drain import Drain
from pipeline.gate import Gates, GateState, PassSeen
from pipeline.graph import Graph
from pipeline.limits import Limits
from pipeline.loop_config import LoopConfig
from pipeline.placement import Placement
from pipeline.pool_watch import PoolWatch
from pipeline.ray_blocks import blocks_of
from pipeline.ray_nodes import NodesSeen
from pipeline.rerun import Rerun
from pipeline.resizing import resizing
from pipeline.stacks import log_stacks
from pipeline.stats import RunStats
from pipeline.stop import DrainOver, PassOver, StopFlag, leave_now
from pipeline.tasks import Presets, Tasks
from pipeline.watchdog import Standstill, Starts, Watchdog
from records.errors import FatalError, ReelscribeError, one_line
from records.flow import flow_rows, spent_seconds

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Phase:
    """Runs one phase. The main thread takes rows and commits; the housekeeper's, or a signal's, journals meanwhile."""

    graph: Graph
    committer: Committer
    stats: RunStats
    flag: StopFlag
    config: LoopConfig
    limits: Limits = field(default_factory=Limits)
    pools: PoolWatch = field(default_factory=PoolWatch)
    tripped: Callable[[], str | None]
    """The breaker's verdict."""
    why_stop: Callable[[], str | None] = lambda: None
    """None while the run may go on, else why not."""
    on_tick: Callable[[], None] = lambda: None
    """Called about every second, for the display."""
    gates: Gates
    """Opens the gate that takes the place of a dead one."""
    place_anew: Callable[[Mapping[str, Placement]], Mapping[str, Placement]] = dict
    """From where the workers of each stage went, with how many each began, to the same on the nodes that live now."""
    _memory_bytes: int = 0
    _last_flush: float = field(default_factory=time.monotonic)
    _over: threading.Event = field(default_factory=threading.Event)
    _all_over: threading.Event = field(default_factory=threading.Event)
    _asking_since: float | None = None
    """Since when the housekeeper waits for Ray's answers."""
    _drain: Drain = field(init=False)
    _starts: Starts = field(init=False)
    _expects_rows: bool = True
    """Whether any row may still come back in this pass."""
    _watchdog: Watchdog | None = None
    _nodes: NodesSeen = field(default_factory=NodesSeen)
    _gave_up: bool = False
    """Whether the last pass was given up."""

    def __post_init__(self) -> None:
        self._starts = Starts(self.graph.config.start_tries)
        self._drain = Drain(flag=self.flag, limits=self.limits, seconds=self.config.drain_seconds)

    def run(self, tasks: Tasks) -> None:
        """Runs every task; what a worker took down with it runs again row by row until each row has an outcome."""
        housekeeper = threading.Thread(target=self._keep_house, name="housekeeper", daemon=True)
        housekeeper.start()
        threading.Thread(target=self._watch_drain, name="drain", daemon=True).start()
        try:
            self._pass(tasks, one_by_one=False)
            self._isolate(tasks)
        except DrainOver:
            if self._expects_rows:
                logger.warning("rows that were still on their way run again next time")
        except Exception as error:
            self._save_what_there_is()
            if not self._ray_left(error):
                raise
        finally:
            self._over.set()
            housekeeper.join(timeout=30)
            self._all_over.set()
            gc.collect()  # as after a pass: before this, what was raised held all that it had come through
        if self.flag.error is not None:
            self._save_what_there_is()
            raise self.flag.error
        self.committer.finish()
        self._breaker_stops()  # it judges the last rows once more
        self.committer.flush_journal()

    def _save_what_there_is(self) -> None:
        """Journals after an error that ends the run; a second error would only hide the first."""
        try:
            self.committer.flush_journal()
        except Exception as error:  # noqa: BLE001 - likeliest the same store
            logger.warning("could not journal either: %s", one_line(error))

    def on_signal(self, number: int) -> None:
        """Has all rows journalled at once, in a thread of its own: a second signal leaves also while that hangs."""
        if not self.flag.set(f"received {signal.Signals(number).name}", signal_number=number):
            logger.warning("received %s again, leaving now", signal.Signals(number).name)
            leave_now(self.flag)
        self._drain.begin_anew()
        threading.Thread(target=self._journal_and_stop, name="journal", daemon=True).start()

    def _journal_and_stop(self) -> None:
        try:
            self._stop_reading()
            rows = self.committer.flush_journal()
            drain = f"draining for {self.config.drain_seconds:g} s, a second signal ends that"
            logger.warning("%s: all that came back is saved, %d rows just now; %s", self.flag.reason, rows, drain)
        except Exception as error:  # noqa: BLE001 - the run ends with it, whatever it is
            self._fail(error)

    def _pass(self, tasks: Tasks, *, one_by_one: bool) -> None:
        self.limits.begin_pass()
        if len(tasks) and not self.flag.is_set:
            self._watchdog = Watchdog(
                stages=self.graph.stages(tasks),
                start_seconds=self.graph.config.start_timeout_seconds,
                stuck_seconds=self.graph.config.stuck_seconds,
            )
            self._nodes, self._gave_up = NodesSeen(), False
            try:
                with self.pools.watching(), resizing(self.graph.config.shrink_seconds):
                    self._take_all(self.graph.build(tasks, one_by_one=one_by_one))
            except PassOver:
                self._gave_up = True
            gc.collect()  # Ray Data's operators are in cycles (2.60): their workers would keep CPUs and GPUs until then

    def _take_all(self, dataset: Dataset) -> None:
        self.flag.begin_pass()
        # Closed at once where taking a block fails: left to the end of the process, it waits for a Ray that is gone.
        with contextlib.closing(blocks_of(dataset)) as blocks:
            while True:
                with self.flag.waiting():
                    block = next(blocks, None)
                if block is None:
                    return
                self._take(block)

    def _take(self, block: pa.Table) -> None:
        self._memory_bytes += block.nbytes
        self.stats.add_spent(spent_seconds(block))
        self.committer.add(flow_rows(block))
        if self._breaker_stops():
            self._stop_reading()
        if self._memory_bytes > self.config.memory_bytes:
            self._flush()

    def _breaker_stops(self) -> bool:
        return self.tripped() is not None and self.flag.set(f"too many rows failed alike: {self.tripped()}")

    def _flush(self) -> None:
        self.committer.flush_journal()
        self._memory_bytes = 0
        self._last_flush = time.monotonic()

    def _settled_rows(self) -> int:
        return self.committer.rows - len(self.committer.in_memory) - self.committer.rows_before_pass

    def _stop_reading(self) -> None:
        self._drain.begin()
        self.graph.gate.stop.remote()

    def _keep_house(self) -> None:
        """Journals at the interval, watches the lease and the drain, and redraws."""
        while not self._over.wait(1.0):
            try:
                self._tick()
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error)
                self._stop_reading()
            self._asking_since = None

    def _watch_drain(self) -> None:
        """Apart from the housekeeper, who asks Ray and may have to wait for its answer."""
        while not self._all_over.wait(1.0):
            # Where the driver cannot go on, nothing that comes back could be kept.
            self._drain.watch(expects_rows=self._expects_rows and self.flag.error is None)
            self._drain.leave_without_ray(self._asking_since, self._save_what_there_is)

    def _ray_left(self, error: Exception) -> bool:
        """Whether Ray's own processes took the signal as well: whoever signals the whole group ends them with us."""
        return self.flag.signal_number is not None and isinstance(error, ray.exceptions.RayError)

    def _fail(self, error: Exception) -> None:
        """The run ends with its first error, whatever it was to stop for before."""
        if self._ray_left(error):
            self._expects_rows = False
        elif self.flag.fail(error) and not isinstance(error, ReelscribeError):  # else its one line is the last of all
            logger.exception("the driver cannot go on")

    def _tick(self) -> None:
        now = time.monotonic()
        interval = 1.0 if self.flag.is_set else self.config.journal_seconds
        with self.committer.lock:
            if now - self._last_flush >= interval and self.flag.error is None:
                self._flush()
            settled, arrived = self._settled_rows(), self.committer.rows - self.committer.rows_before_pass
            shards = self.committer.committed_shards - self.committer.shards_before_pass
        self._asking_since = now
        state = self._ask_gate(settled, shards)
        if state is None:
            return
        for line in self._starts.news(state.last_start_errors):
            logger.warning("%s", line)
        if (given_up := self._starts.given_up(state.start_errors, state.seen)) and not self.flag.is_set:
            self._end_with(FatalError(given_up))
        if self._watchdog is not None and not self.flag.is_set:
            gone = self._nodes.gone()
            still = self._watchdog.observe(state.rows_issued, arrived, state.seen, state.last_start_errors)
            if still is not None:
                self._end_standstill(still)
            elif self._watchdog.is_idle(state.seen, self.graph.config.place_anew_seconds) and gone:
                logger.warning("%d nodes are gone and nothing moves: placing the stages anew on what is left", gone)
                self._watchdog = None  # of this pass, which is given up once
                self.flag.end_pass()
        self.pools.hear(state.workers, state.loading, gate_is_full=state.is_full)
        self.limits.observe(issued=state.rows_issued, arrived=arrived, workers=self.pools.living())
        lost = self.why_stop()
        if lost is not None and self.flag.set(lost):
            logger.warning("%s: saving what came back, then draining", lost)
            self._stop_reading()
        if (limit := self.limits.reason_to_stop()) is not None and self.flag.set(limit, planned=True):
            logger.warning("%s: no further shard is read, what is on its way drains", limit)
            self._stop_reading()
        # Before every stage has had a worker that is ready no row gets through.
        all_start = self._watchdog is None or self._watchdog.all_were_ready(state.seen)
        self._expects_rows = state.rows_issued > arrived and (arrived > 0 or all_start)
        self.on_tick()

    def _ask_gate(self, settled: int, shards: int) -> GateState | None:
        """Tells the gate how far the pass is and hears how it stands; None where the gate is dead, and so the pass."""
        gate = self.graph.gate
        try:
            state: GateState = ray.get(gate.rows_back.remote(settled, shards), timeout=60)
        except ray.exceptions.RayActorError as error:
            if self._ray_left(error):
                raise
            if gate is self.graph.gate and self._watchdog is not None and not self.flag.is_set:
                self._watchdog = None  # as where nodes are gone
                self.flag.end_pass()
            return None
        return state

    def _end_standstill(self, still: Standstill) -> None:
        """Ends the run with what holds it up, the stacks of that stage's workers in the log before."""
        log_stacks(self.graph.gate, still.stage, self._over.wait)
        self._end_with(FatalError(still.reason))

    def _end_with(self, error: FatalError) -> None:
        self.flag.set(str(error), error=error)
        self._stop_reading()
        self.flag.end_drain()

    def _isolate(self, tasks: Tasks) -> None:
        """Runs what was lost again, until nothing is; after a pass that was given up on the cluster as it is now."""
        rerun = Rerun(stages=len(self.graph.specs))
        while len(lost := self._lost(tasks, rerun.presets)):
            seen = self._end_pass()
            if self._gave_up:
                self.graph = replace(self.graph, placements=self.place_anew(self.graph.placements))
            again, one_by_one = rerun.after(lost, seen, self.graph.reader(), gave_up=self._gave_up)
            with self.committer.lock:
                self.committer.begin_pass()
            self._pass(again, one_by_one=one_by_one)

    def _end_pass(self) -> PassSeen:
        """What the gate saw of the last pass. Where it is dead the pass counts as given up, and another is opened."""
        try:
            seen: PassSeen = ray.get(self.graph.gate.end_pass.remote())
        except ray.exceptions.RayActorError as error:
            self._gave_up = True
            self.graph = replace(self.graph, gate=self.gates.open_again(error, self.committer.rows))
            return PassSeen()
        return seen

    def _lost(self, tasks: Tasks, presets: Presets) -> Tasks:
        """The shards that did not come back whole; none once the run is to stop."""
        if self.flag.is_set:
            return replace(tasks, indices=tasks.indices[:0])
        with self.committer.lock:
            return replace(tasks.where(lambda shard_id: not self.committer.is_committed(shard_id)), presets=presets)
