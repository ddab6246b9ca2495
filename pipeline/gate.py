"""The gate: every shard asks it before its rows enter the graph.

It is a Ray actor of its own, so that a busy driver holds nobody up. It says no once the run is to stop, and lets a
shard wait while too many rows are out.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.heartbeat import SILENT_SECONDS, WorkerState
from pipeline.ray_nodes import live_node_ids
from pipeline.watchdog import WorkerSeen
from records.errors import FatalError, one_line

logger = logging.getLogger(__name__)

HELD_SECONDS = 20.0
"""A worker that has not been heard of for so long holds no GPU."""

FORGET_SECONDS = 600.0
"""A worker that has not been heard of for so long is no longer spoken of."""

GATE_DEATHS = 3
"""So many gates that die one after the other, with no row come back in between, end the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """How far reading may run ahead of the journal. Never part of a fingerprint.

    Raises:
        ValueError: A limit is not positive.
    """

    max_rows_out: int = 8192
    """Rows issued and neither journalled nor committed; what one task reads always fits."""
    max_open_shards: int = 32768
    """Shards let in and not committed: of each the driver keeps 2.6 KiB, however few of its rows are still out."""
    stall_seconds: float = 60.0
    """With nothing coming back for so long, what is out is taken for lost and one more shard is let in."""

    def __post_init__(self) -> None:
        if self.max_rows_out < 1 or self.max_open_shards < 1 or self.stall_seconds <= 0:
            raise ValueError("gate: max_rows_out, max_open_shards and stall_seconds must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateState:
    """What the gate knows and the driver asks for every second."""

    start_errors: Mapping[str, Sequence[str]]
    """Stage to the reasons why its workers could not start, one a try."""
    rows_issued: int
    """Rows let in so far in this pass."""
    workers: Mapping[str, int]
    """Stage to its workers that live now."""
    loading: Mapping[str, int] = field(default_factory=dict)
    """Those of them that are not ready."""
    seen: Sequence[WorkerSeen] = ()
    """Each worker as it was last heard of."""
    is_full: bool = False
    """Whether a shard waits because as many rows or shards are out as may be."""
    last_start_errors: Mapping[str, str] = field(default_factory=dict)
    """Stage to why a worker of it could not start last, also where another could since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassSeen:
    """What the gate has seen of a pass that is over."""

    issued: Collection[str] = ()
    """The shards that were let in."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Shard to why it could not be read."""
    running: Mapping[tuple[str, str, int], str] = field(default_factory=dict)
    """Shard, item and version to the stage that the item entered last, where rows ran one by one."""


class Gate:
    """Counts what is out and holds the stop flag. Its methods run on one event loop, one at a time."""

    def __init__(self, config: GateConfig, live_nodes: Callable[[], Collection[str]] = live_node_ids) -> None:
        self._config = config
        self._live_nodes = live_nodes
        self._issued: dict[str, int] = {}
        self._rows_issued = 0
        self._rows_back = self._shards_back = 0
        self._waiting = 0
        self._last_progress = time.monotonic()
        self._stopped = False
        self._changed = asyncio.Condition()
        self._start_errors: dict[str, list[str]] = {}
        self._last_start_errors: dict[str, str] = {}
        self._failed: set[str] = set()
        self._beats: dict[str, tuple[str, WorkerState, float]] = {}
        self._wanted: frozenset[str] = frozenset()
        self._stacks: dict[str, tuple[str, str]] = {}
        self._unread: dict[str, str] = {}
        self._running: dict[tuple[str, str, int], str] = {}

    async def admit(self, shards: Mapping[str, int]) -> bool:
        """Whether the rows of some shards may enter; waits while too many are out.

        Asked again, it says what it said before.

        Args:
            shards: What one task has read: shard to its number of rows.
        """
        rows = sum(shards.values())
        async with self._changed:
            while not self._stopped and not self._issued.keys() & shards.keys() and not self._has_room(shards):
                timeout = self._last_progress + self._config.stall_seconds - time.monotonic()
                self._waiting += 1
                try:
                    await asyncio.wait_for(self._changed.wait(), max(timeout, 0.1))
                except TimeoutError:
                    if time.monotonic() - self._last_progress >= self._config.stall_seconds:
                        break
                finally:
                    self._waiting -= 1
            if self._issued.keys() & shards.keys():
                return True
            if self._stopped:
                return False
            self._issued.update(shards)
            self._rows_issued += rows
            self._last_progress = time.monotonic()
            return True

    def _has_room(self, shards: Mapping[str, int]) -> bool:
        out, open_shards = self._rows_issued - self._rows_back, len(self._issued) - self._shards_back
        fit = out + sum(shards.values()) <= self._config.max_rows_out
        return out <= 0 or (fit and open_shards + len(shards) <= self._config.max_open_shards)

    async def rows_back(self, total: int, shards: int = 0) -> GateState:
        """The driver says how many issued rows it has journalled, committed or counted as failed.

        Args:
            total: Of this pass.
            shards: How many of the pass's shards it has committed.
        """
        async with self._changed:
            if total > self._rows_back or shards > self._shards_back:
                self._rows_back, self._shards_back = max(total, self._rows_back), max(shards, self._shards_back)
                self._last_progress = time.monotonic()
                self._changed.notify_all()
        self._bury()
        now = time.monotonic()
        seen = [
            WorkerSeen(stage=stage, worker=worker, state=state, silent_seconds=now - last)
            for worker, (stage, state, last) in self._beats.items()
        ]
        heard = [one for one in seen if one.silent_seconds <= HELD_SECONDS]
        return GateState(
            start_errors=self._start_errors,
            rows_issued=self._rows_issued,
            workers=Counter(one.stage for one in heard),
            loading=Counter(one.stage for one in heard if one.state.phase != "ready"),
            seen=[one for one in seen if one.silent_seconds <= HELD_SECONDS or one.state.busy_seconds > 0],
            is_full=self._waiting > 0,
            last_start_errors=self._last_start_errors,
        )

    def _bury(self) -> None:
        """Forgets workers that are gone. One whose node lives and that was loading has failed to start."""
        now = time.monotonic()
        silent = {worker: now - last for worker, (_, _, last) in self._beats.items()}
        dead = [worker for worker, seconds in silent.items() if seconds > SILENT_SECONDS]
        nodes = self._live_nodes() if dead else ()
        for worker in dead:
            stage, state, _ = self._beats[worker]
            if state.phase == "loads" and state.node in nodes:
                reason = f"process {state.pid} on node {state.node[:12]} ended while its model loaded: out of memory?"
                self._note_start_error(stage, reason)
            if state.phase != "ready" or state.node not in nodes or silent[worker] > FORGET_SECONDS:
                del self._beats[worker]

    async def stop(self) -> None:
        """Lets no further shard in."""
        async with self._changed:
            self._stopped = True
            self._changed.notify_all()

    async def end_pass(self) -> PassSeen:
        """What was seen of this pass, and forgets it: whatever has not come back is issued again."""
        async with self._changed:
            seen = PassSeen(issued=list(self._issued), unread=dict(self._unread), running=dict(self._running))
            self._issued.clear()
            self._unread.clear()
            self._running.clear()
            self._rows_issued = self._rows_back = self._shards_back = 0
            return seen

    async def beat(self, stage: str, worker: str, state: WorkerState) -> bool:
        """A worker lives. Says whether its stacks are wanted; one that is ready proves that its model can load."""
        if worker in self._failed:
            return False
        self._beats[worker] = (stage, state, time.monotonic())
        if state.phase == "ready":
            self._start_errors.pop(stage, None)
        return stage in self._wanted and worker not in self._stacks

    async def want_stacks(self, stage: str) -> None:
        """Asks the workers of a stage for their stacks: each answers with its next beat."""
        self._wanted |= {stage}

    async def stacks(self, stage: str, worker: str, text: str) -> None:
        """A worker's answer."""
        self._stacks[worker] = (stage, text)

    async def take_stacks(self) -> list[str]:
        """The answers so far."""
        return [text for _, text in self._stacks.values()]

    async def cannot_read(self, shard_id: str, reason: str) -> None:
        """A shard's files could not be read."""
        self._unread[shard_id] = reason

    async def cannot_start(self, stage: str, worker: str, reason: str) -> None:
        """A worker could not build its stage: it is not heard from here on, though its process may take its time."""
        self._failed.add(worker)
        self._beats.pop(worker, None)
        self._note_start_error(stage, reason)

    def _note_start_error(self, stage: str, reason: str) -> None:
        self._start_errors.setdefault(stage, []).append(reason)
        self._last_start_errors[stage] = reason

    async def started(self, shard_id: str, video_id: str, version: int, stage: str) -> None:
        """A stage begins with one item; asked of workers only while rows run one by one, to know which one kills."""
        self._running[shard_id, video_id, version] = stage


GateHandle = Any
"""The gate's actor handle; Ray's own type for it knows none of the methods that async actors gain."""


@dataclass(slots=True)
class Gates:
    """Opens the gate of a phase, and another one where that dies."""

    open: Callable[[], GateHandle]
    """Opens one, and ends the one before."""
    _deaths: int = 0
    _rows: int = -1

    def open_again(self, error: Exception, rows: int) -> GateHandle:
        """Opens another.

        Args:
            error: What the dead one answered.
            rows: That have come back in this phase.

        Raises:
            FatalError: `GATE_DEATHS` gates died one after the other and no row came back in between.
        """
        self._deaths, self._rows = (self._deaths + 1 if rows == self._rows else 1), rows
        if self._deaths >= GATE_DEATHS:
            raise FatalError(
                f"the gate died {self._deaths} times and no row came back in between; the same command goes on from "
                f"here: {one_line(error)}"
            )
        logger.warning("the gate died, opening another: %s", one_line(error))
        return self.open()


@contextlib.contextmanager
def gates(config: GateConfig) -> Iterator[Gates]:
    """Gates as actors that take no CPU slot; the last one ends with the context.

    They run on the driver's node, as any other may go while the driver lives.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Gate).options(num_cpus=0, max_concurrency=1000, scheduling_strategy=here)
    opened: list[GateHandle] = []

    def close() -> None:
        while opened:
            ray.kill(opened.pop())

    def open_one() -> GateHandle:
        close()
        opened.append(actor.remote(config))
        return opened[-1]

    try:
        yield Gates(open_one)
    finally:
        close()
