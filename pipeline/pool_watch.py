"""How the workers of each pool spent their time, as Ray Data's scheduler sees them: looked at from its own loop.

A worker that was asked for waits until its heart beats on some node, then loads until it is ready: Ray calls it pending
all that time (2.60). One without a block in hand is starved, or blocked where the scheduler holds its pool back for
what comes after it. What it does with a block, its own busy clock says (`spent` in the flow).
"""

import contextlib
import dataclasses
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import (
    ExecutionCallback,  # no public way sees pools while they load
)

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
    """Of those ready: without a block, and none held back."""
    blocked_seconds: float = 0.0
    """Of those ready: without a block, while the pool is held back for what comes after it."""
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
    _last: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, pools: Callable[[], Iterable[PoolNow]]) -> None:
        """Counts the time since the last look for the pools as they are; at most every `LOOK_SECONDS`."""
        with self._lock:
            now = self.clock()
            if self._last is not None and now - self._last < LOOK_SECONDS:
                return
            passed, self._last = now - (self._last if self._last is not None else now), now
            self._now = dict.fromkeys(self._times, PoolWorkers())
            for pool in pools():
                self._count(pool, passed)

    def hear(self, alive: Mapping[str, int]) -> None:
        """Takes how many workers of each stage live on a node now, ready or not, as their heartbeats say."""
        with self._lock:
            self._alive = alive

    def living(self) -> dict[str, int]:
        """Stage to its workers that hold a place on a node: heard of lately, and no more than Ray has.

        A heart is heard of for a while after its end; where a stage's input is over, Ray's pool is gone at once.
        """
        with self._lock:
            has = {stage: sum(dataclasses.astuple(workers)) for stage, workers in self._now.items()}
            return {stage: min(count, has.get(stage, count)) for stage, count in self._alive.items()}

    def _count(self, pool: PoolNow, seconds: float) -> None:
        total = self._times.setdefault(pool.stage, PoolTime())
        loading = min(pool.pending, max(self._alive.get(pool.stage, 0) - pool.running, 0))
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
        self._last, self._alive = None, {}
        watch = self

        class Callback(ExecutionCallback):
            def on_execution_step(self, executor: Any) -> None:  # noqa: ANN401 - Ray's own
                watch.look(lambda: pools_of(executor._topology))

        classes = DataContext.get_current().custom_execution_callback_classes
        classes.append(Callback)
        try:
            yield
        finally:
            classes.remove(Callback)
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
    for operator in topology:
        named = _STAGE.search(operator.name)
        if named is None or not operator.get_autoscaling_actor_pools():
            continue
        info = operator.get_actor_info()
        if not operator.has_completed():
            yield PoolNow(
                stage=named[1],
                pending=info.pending + info.restarting,
                running=info.running,
                idle=info.idle,
                held_back=operator._in_task_submission_backpressure or operator._in_task_output_backpressure,
            )
