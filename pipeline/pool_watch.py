"""How the workers of each pool spent their time, as Ray Data's scheduler sees them: looked at from its own loop.

A worker that was asked for waits until its heart beats on some node, then loads until it is ready: Ray calls it pending
all that time (2.60). One without a block in hand is blocked where the scheduler holds its pool back for what comes
after it, or where the gate lets nothing in because as many rows are out as may be, and no stage before it has a block:
they are all further down. Else it is starved. What it does with a block, its own busy clock says (`spent` in the flow).
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ray.data._internal.execution.execution_callback import ExecutionCallback

from pipeline.ray_callbacks import calling

LOOK_SECONDS = 0.2

_STAGE = re.compile(r"MapBatches\((\w+)\)")


@dataclass(slots=True, kw_only=True)
class PoolTime:
    """Seconds of one pool, summed over its workers."""

    waiting_seconds: float = 0.0
    """Asked for and on no node yet, or not heard of since its process began to start there."""
    loading_seconds: float = 0.0
    """On a node and not ready yet: waiting for its turn on a GPU, or loading the model."""
    ready_seconds: float = 0.0
    starved_seconds: float = 0.0
    """Of those ready: without a block, and neither held back nor behind the gate."""
    blocked_seconds: float = 0.0
    """Of those ready: without a block, while the pool is held back for what comes after it."""
    gate_seconds: float = 0.0
    """Of those ready: without a block, while the gate lets none in and no stage before has one."""
    held_back_seconds: float = 0.0
    """Of those ready: with a block, while the pool is held back; they may be busy with it all the same."""
    most_workers: int = 0
    """On nodes at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNow:
    """One pool at one moment."""

    stage: str
    pending: int
    """Workers asked for, or being started anew."""
    running: int
    idle: int
    """Those of the running ones without a block."""
    held_back: bool
    """Whether the scheduler gives it no block, or takes none of its outputs, for what comes after it."""
    queued: int = 0
    """Blocks that wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolWorkers:
    """The workers of one pool at one moment, each counted once."""

    waiting: int = 0
    """On no node yet, or not heard of since."""
    loading: int = 0
    idle: int = 0
    """Ready and without a block."""
    working: int = 0
    """Ready and with a block."""


@dataclass(slots=True)
class PoolWatch:
    """Sums up what pools do. Told by Ray Data's thread, read by others."""

    clock: Callable[[], float] = time.monotonic
    _times: dict[str, PoolTime] = field(default_factory=dict)
    _now: dict[str, PoolWorkers] = field(default_factory=dict)
    _alive: Mapping[str, int] = field(default_factory=dict)
    _loading: Mapping[str, int] = field(default_factory=dict)
    _gate_is_full: bool = False
    _last: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, pools: Callable[[], Iterable[PoolNow]]) -> None:
        """Counts the time since the last look for the pools as they are; at most every `LOOK_SECONDS`.

        Args:
            pools: Gives them, upstream first.
        """
        with self._lock:
            now = self.clock()
            if self._last is not None and now - self._last < LOOK_SECONDS:
                return
            passed, self._last = now - (self._last if self._last is not None else now), now
            self._now = dict.fromkeys(self._times, PoolWorkers())
            waits_for_rows = True
            for pool in pools():
                waits_for_rows &= not pool.queued
                self._count(pool, passed, at_gate=waits_for_rows and self._gate_is_full)
                waits_for_rows &= pool.running == pool.idle

    def hear(self, alive: Mapping[str, int], loading: Mapping[str, int], *, gate_is_full: bool = False) -> None:
        """Takes what the gate knows now.

        Args:
            alive: Stage to its workers that live on a node, ready or not, as their heartbeats say.
            loading: Those of them that are not ready.
            gate_is_full: Whether shards wait there because as many rows are out as may be.
        """
        with self._lock:
            self._alive, self._loading, self._gate_is_full = alive, loading, gate_is_full

    def living(self) -> dict[str, int]:
        """Stage to its workers that hold a place on a node: heard of lately, and no more than Ray has there.

        A heart is heard of for a while after its end; Ray knows at once that a worker has died, or that a pool is over.
        """
        with self._lock:
            there = {stage: now.loading + now.idle + now.working for stage, now in self._now.items()}
            return {stage: min(count, there.get(stage, count)) for stage, count in self._alive.items()}

    def _count(self, pool: PoolNow, seconds: float, *, at_gate: bool) -> None:
        total = self._times.setdefault(pool.stage, PoolTime())
        loading = min(pool.pending, self._loading.get(pool.stage, 0))
        self._now[pool.stage] = PoolWorkers(
            waiting=pool.pending - loading, loading=loading, idle=pool.idle, working=pool.running - pool.idle
        )
        total.waiting_seconds += (pool.pending - loading) * seconds
        total.loading_seconds += loading * seconds
        total.ready_seconds += pool.running * seconds
        total.most_workers = max(total.most_workers, pool.running + loading)
        if pool.held_back:
            total.blocked_seconds += pool.idle * seconds
            total.held_back_seconds += (pool.running - pool.idle) * seconds
        elif at_gate:
            total.gate_seconds += pool.idle * seconds
        else:
            total.starved_seconds += pool.idle * seconds

    def times(self) -> dict[str, PoolTime]:
        """Stage to its time so far."""
        with self._lock:
            return {stage: replace(times) for stage, times in self._times.items()}

    def workers(self) -> dict[str, PoolWorkers]:
        """Stage to its workers at the last look; none once its input is over."""
        with self._lock:
            return dict(self._now)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watches the executions that are built and run while the context is open."""
        self._last, self._alive, self._loading, self._gate_is_full = None, {}, {}, False
        watch = self

        class Callback(ExecutionCallback):
            def on_execution_step(self, executor: Any) -> None:  # noqa: ANN401 - Ray's own
                watch.look(lambda: pools_of(executor._topology))

        try:
            with calling(Callback):
                yield
        finally:
            with self._lock:
                self._now = dict.fromkeys(self._times, PoolWorkers())

    def __reduce__(self) -> tuple[type["PoolWatch"], tuple[()]]:
        """The context goes to every worker, where there is nothing to watch."""
        return PoolWatch, ()


def pools_of(topology: Mapping[Any, Any]) -> Iterator[PoolNow]:
    """The stages' pools of a running graph.

    Args:
        topology: Ray Data's operators, each with its state; those of stages bear the stage's name.
    """
    for stage, operator, pool in stage_pools(topology):
        info = pool.get_actor_info()
        yield PoolNow(
            stage=stage,
            pending=info.pending + info.restarting,
            running=info.running,
            idle=info.idle,
            held_back=operator._in_task_submission_backpressure or operator._in_task_output_backpressure,
            queued=topology[operator].total_enqueued_input_blocks(),
        )


def stage_pools(topology: Mapping[Any, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each stage that is not over, with Ray Data's operator and pool of it."""
    for operator in topology:
        named, pools = _STAGE.search(operator.name), operator.get_autoscaling_actor_pools()
        if named is not None and pools and not operator.has_completed():
            yield named[1], operator, pools[0]
