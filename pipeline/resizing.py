"""Lets workers of Ray Data's pools go, or asks for them again, as `pipeline.pool_sizes` says, from its own loop."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ray.data._internal.actor_autoscaler import ActorPoolScalingRequest
from ray.data._internal.execution.execution_callback import ExecutionCallback

from pipeline.pool_sizes import PoolLoad, PoolSizes
from pipeline.pool_watch import LOOK_SECONDS, stage_pools
from pipeline.ray_callbacks import calling
from records.errors import one_line

logger = logging.getLogger(__name__)

_Pool = Any
"""Ray's own `_ActorPool`."""


@contextlib.contextmanager
def resizing(window_seconds: float) -> Iterator[None]:
    """Resizes the pools of the executions that are built and run while the context is open.

    What fails in it is said once, and the pools stay as they are: no run ends of it.

    Args:
        window_seconds: By how long a time a pool is judged at least.
    """

    class Callback(ExecutionCallback):
        def __init__(self) -> None:
            self._resizer: Resizer | None = Resizer(PoolSizes(window_seconds))

        def on_execution_step(self, executor: Any) -> None:  # noqa: ANN401 - Ray's own
            if self._resizer is None:
                return
            try:
                self._resizer.step(executor._topology)
            except Exception as error:  # noqa: BLE001 - Ray's insides may be others; workers that stay cost less than a run
                logger.warning("pools keep their workers from here: %s", one_line(error))
                self._resizer = None

    with calling(Callback):
        yield


@dataclass(slots=True)
class Resizer:
    """Does what `sizes` says, step by step.

    Ray's own way down (2.60) takes the oldest worker that has no block: each pool would leave a node on which another
    stays, and where each worker always has one of several blocks, none would go. Here those go that are on the emptiest
    nodes, so that nodes get empty, and until they do they are given no more blocks. And Ray's way up would bring them
    back for two blocks that come at a time.
    """

    sizes: PoolSizes
    _leaving: dict[str, list[Any]] = field(default_factory=dict)
    """Stage to the actors that go once they have no block."""
    _configs: dict[str, Any] = field(default_factory=dict)
    """Stage to how large its pool may be, as Ray was told at first."""
    _next: float = 0.0

    def step(self, topology: Mapping[Any, Any]) -> None:
        """After each step of Ray Data's loop, before it gives out blocks again.

        Args:
            topology: Ray Data's operators, each with its state.
        """
        pools = {stage: pool for stage, operator, pool in stage_pools(topology) if not operator._inputs_complete}
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LOOK_SECONDS
            for stage, pool in pools.items():
                self._configs.setdefault(stage, pool._config)
            loads = [_load(stage, pool, self._configs[stage].initial_size) for stage, pool in pools.items()]
            changes = self.sizes.decide(loads)
            for stage, pool in pools.items():
                self._change(stage, changes.get(stage, 0), pools)
                pool._config = self._configs[stage]
                if self.sizes.holds(stage):
                    most = max(pool.current_size(), pool.min_size())
                    first = min(pool.initial_size(), most)
                    pool._config = replace(pool._config, max_size=most, initial_size=first)
        for stage, pool in pools.items():
            self._leaving[stage] = [actor for actor in self._leaving.get(stage, []) if not _let_go(pool, actor)]

    def _change(self, stage: str, change: int, pools: Mapping[str, _Pool]) -> None:
        """Takes how many workers a pool is to have more, or fewer than it has now, those that leave included."""
        pool, leaving = pools[stage], self._leaving.setdefault(stage, [])
        if change > 0:
            pool.scale(ActorPoolScalingRequest.upscale(delta=change, reason="too few were left"))
        pending = min(-change, pool.num_pending_actors())
        if pending > 0:
            pool.scale(ActorPoolScalingRequest.downscale(delta=-pending, reason="not needed"))
        wanted = max(-change - max(pending, 0), 0)
        del leaving[wanted:]
        while len(leaving) < wanted and (candidates := pool._running_actors.keys() - set(leaving)):
            crowd = self._crowd(pools)
            nodes = {actor: pool.get_actor_location(actor) for actor in candidates}
            leaving.append(min(candidates, key=lambda actor: (crowd[nodes[actor]], nodes[actor])))

    def _crowd(self, pools: Mapping[str, _Pool]) -> Counter[str]:
        """Node to the workers of all pools that stay on it."""
        gone = {actor for leaving in self._leaving.values() for actor in leaving}
        return Counter(
            pool.get_actor_location(actor)
            for pool in pools.values()
            for actor in pool._running_actors
            if actor not in gone
        )


def _load(stage: str, pool: _Pool, began: int) -> PoolLoad:
    alive = pool.num_alive_actors()
    return PoolLoad(
        stage=stage,
        pending=pool.current_size() - alive,
        running=alive,
        active=min(pool.num_active_actors(), alive),
        blocks=pool.num_tasks_in_flight(),
        calls=pool.max_actor_concurrency(),
        least=pool.min_size(),
        began=began,
    )


def _let_go(pool: _Pool, actor: Any) -> bool:  # noqa: ANN401 - Ray's own
    """Releases a worker that has no block; until then it is hidden from those that may have one, at each step anew."""
    if actor not in pool._running_actors:
        return True
    if pool._running_actors[actor].num_tasks_in_flight == 0:
        pool._release_running_actor(actor)
        return True
    for heap in (pool._alive_actors_to_in_flight_tasks_heap, *pool._alive_node_to_actor_heap.values()):
        if actor in heap:
            del heap[actor]
    return False
