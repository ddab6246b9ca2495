"""How many workers a pool keeps while its input lasts: what the work of the last minutes needs.

Ray Data's own way down (2.60, `default_actor_autoscaler.py`) judges one moment: ten seconds after a worker was asked
for, each step of its scheduler takes one from a pool that is less than half busy. An engine that loads for a minute
would go before its first row. So that is off, and a pool is judged here by a whole window, which is some times as long
as its first worker took to be there. A new worker anywhere begins all windows anew: what it lets through is not
measured yet. Nothing here knows Ray.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

START_FACTOR = 2.0
"""A window is at least so many times as long as a pool's first worker took from being asked for: a node and a model."""

BUSY_SHARE = 0.8
"""How busy the workers may be that are left."""

FULL_BLOCKS = 1.75
"""Blocks for each call of each worker at which a pool is full; no worker takes more than two. Ray Data's own number."""

GROW_SECONDS = 30.0
"""A pool that let workers go and is full for most of so long a time asks for them again."""

_EXACT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLoad:
    """One pool at one moment."""

    stage: str
    pending: int
    """Workers asked for and not ready."""
    running: int
    active: int
    """Those of the running ones with a block."""
    blocks: int
    """In the hands of all workers."""
    calls: int
    """Blocks that one works on at a time."""
    least: int
    """Workers that the pool must keep."""
    began: int
    """Workers that it began with: there is, or may be, room for so many."""

    @property
    def size(self) -> int:
        """Workers that it has or has asked for."""
        return self.pending + self.running


@dataclass(slots=True, kw_only=True)
class _Judged:
    """What is known of one pool."""

    asked_at: float
    start_seconds: float | None = None
    """From then until a worker was ready first."""
    most_running: int = 0
    window_at: float = 0.0
    window_most: int = 0
    """Workers that were ready in it at a time."""
    running_seconds: float = 0.0
    active_seconds: float = 0.0
    block_seconds: float = 0.0
    target: int | None = None
    """Workers to keep, while there are more."""
    has_shrunk: bool = False
    proved: int = 0
    """With fewer it became full once."""
    grow_at: float = 0.0
    full_seconds: float = 0.0
    """Since then, with blocks for all calls of all workers."""

    def begin_window(self, now: float) -> None:
        self.window_at, self.window_most = now, 0
        self.running_seconds = self.active_seconds = self.block_seconds = 0.0


@dataclass(slots=True)
class PoolSizes:
    """Judges the pools of one pass."""

    window_seconds: float
    """Shortest window."""
    clock: Callable[[], float] = time.monotonic
    _pools: dict[str, _Judged] = field(default_factory=dict)
    _last: float | None = None

    def decide(self, pools: Sequence[PoolLoad]) -> dict[str, int]:
        """Takes the pools whose input is not over, as they are now.

        Returns:
            Stage to the workers to ask for, or, below 0, to let go as far as they are pending or have no block. Said
            again each time until they are gone.
        """
        now = self.clock()
        passed, self._last = now - (self._last if self._last is not None else now), now
        grown = [self._note_start(pool, now) for pool in pools]
        if any(grown) or not all(self._pools[pool.stage].most_running for pool in pools):
            for judged in self._pools.values():
                judged.begin_window(now)
        changes = {pool.stage: self._judge(pool, passed, now) for pool in pools}
        return {stage: change for stage, change in changes.items() if change}

    def holds(self, stage: str) -> bool:
        """Whether a pool has let workers go, or is to, and must not have more than it has."""
        judged = self._pools[stage]
        return judged.has_shrunk or judged.target is not None

    def _note_start(self, pool: PoolLoad, now: float) -> bool:
        """Whether a pool has more ready workers than ever."""
        judged = self._pools.setdefault(pool.stage, _Judged(asked_at=now, window_at=now))
        if pool.running and judged.start_seconds is None:
            judged.start_seconds = now - judged.asked_at
        grown = pool.running > judged.most_running
        judged.most_running = max(judged.most_running, pool.running)
        return grown

    def _judge(self, pool: PoolLoad, passed: float, now: float) -> int:
        judged = self._pools[pool.stage]
        if (more := self._grow(judged, pool, passed, now)) > 0:
            return more
        if pool.running > judged.window_most > 0:  # some are back
            judged.begin_window(now)
        judged.window_most = max(judged.window_most, pool.running)
        judged.running_seconds += pool.running * passed
        judged.active_seconds += pool.active * passed
        judged.block_seconds += pool.blocks * passed
        window = max(self.window_seconds, START_FACTOR * (judged.start_seconds or 0.0))
        if now - judged.window_at >= window:
            self._end_window(judged, pool, now)
        if judged.target is not None and pool.size <= judged.target:
            judged.target, judged.has_shrunk = None, True
        return judged.target - pool.size if judged.target is not None else 0

    def _grow(self, judged: _Judged, pool: PoolLoad, passed: float, now: float) -> int:
        """Workers to ask for again."""
        if pool.blocks >= FULL_BLOCKS * pool.calls * pool.size:
            judged.full_seconds += passed
        if now - judged.grow_at < GROW_SECONDS:
            return 0
        full, judged.grow_at, judged.full_seconds = judged.full_seconds, now, 0.0
        if full < BUSY_SHARE * GROW_SECONDS:
            return 0
        judged.target = None
        if not judged.has_shrunk:
            return 0
        judged.proved, judged.has_shrunk = pool.size + 1, False
        logger.info("%s: %d workers cannot keep up any more", pool.stage, pool.size)
        return max(pool.began - pool.size, 0)

    def _end_window(self, judged: _Judged, pool: PoolLoad, now: float) -> None:
        seconds = now - judged.window_at
        running, active = judged.running_seconds / seconds, judged.active_seconds / seconds
        by_workers = math.ceil(active / BUSY_SHARE - _EXACT)
        # Several calls at a time may cost an engine hardly more than one, or as much as one after the other: the pool
        # goes by the former until it has once become full with fewer.
        by_calls = math.ceil(judged.block_seconds / seconds / pool.calls / BUSY_SHARE - _EXACT)
        needed = max(pool.least, by_calls, min(judged.proved, by_workers))
        judged.begin_window(now)
        # Of workers that are all busy nobody knows how many more there is work for.
        if needed < pool.size and needed <= running + _EXACT:
            judged.target = needed
            text = "%s: on average %.1f of %.1f workers had work for %.0f s, keeping %d of %d"
            logger.info(text, pool.stage, active, running, seconds, needed, pool.size)
