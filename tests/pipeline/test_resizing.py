"""Which workers of Ray's own pools go: those on the emptiest nodes, once they have done what they have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from ray.data import DataContext
from ray.data._internal.actor_autoscaler.autoscaling_actor_pool import AutoscalingActorConfig
from ray.data._internal.execution.interfaces.execution_options import ExecutionResources
from ray.data._internal.execution.operators.actor_pool_map_operator import _ActorPool, _ActorRank, _ActorState

from pipeline.pool_sizes import PoolLoad, PoolSizes
from pipeline.resizing import Resizer, resizing

CALLS = 2


@dataclass
class Told(PoolSizes):
    """Says what a test wants, as if minutes had passed."""

    window_seconds: float = 1.0
    changes: Mapping[str, int] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    seen: Sequence[PoolLoad] = ()

    def decide(self, pools: Sequence[PoolLoad]) -> dict[str, int]:
        self.seen = pools
        sizes = {pool.stage: pool.size for pool in pools}
        return {stage: target - sizes[stage] for stage, target in self.changes.items() if target != sizes[stage]}

    def holds(self, stage: str) -> bool:
        return stage in self.held


def pool_on(**nodes: str) -> Any:  # noqa: ANN401 - Ray's own
    """A pool of Ray's whose workers, by name, run on these nodes; handles and references are their names."""

    def create(labels: Mapping[str, str], logical_id: str) -> tuple[str, str, ExecutionResources]:
        return f"new-{logical_id}", f"ready-{logical_id}", ExecutionResources(cpu=1)

    config = AutoscalingActorConfig(
        min_size=1, max_size=9, initial_size=len(nodes), max_tasks_in_flight_per_actor=2 * CALLS,
        max_actor_concurrency=CALLS, per_actor_resource_usage=ExecutionResources(cpu=1),
    )  # fmt: skip
    pool: Any = _ActorPool(create, config)  # type: ignore[arg-type]
    for actor, node in nodes.items():
        pool._running_actors[actor] = _ActorState(num_tasks_in_flight=0, actor_location=node, is_restarting=False)
        pool._actor_to_logical_id[actor] = actor
        pool._actor_resource_usage[actor] = ExecutionResources(cpu=1)
        pool._alive_actors_to_in_flight_tasks_heap[actor] = _ActorRank(0)
        pool._alive_node_to_actor_heap[node][actor] = _ActorRank(0)
    return pool


def refresh(pool: Any) -> None:  # noqa: ANN401 - Ray's own
    """As Ray does at the end of each step: whoever lives may have blocks again."""
    for actor, state in pool._running_actors.items():
        pool._update_rank(actor=actor, state=state, died=False)


def topology(**pools: Any) -> dict[Any, None]:  # noqa: ANN401 - Ray's own
    return {
        SimpleNamespaceKey(
            name=f"MapBatches({stage})", _inputs_complete=False, has_completed=lambda: False,
            get_autoscaling_actor_pools=lambda pool=pool: [pool],
        ): None
        for stage, pool in pools.items()
    }  # fmt: skip


class SimpleNamespaceKey(SimpleNamespace):
    """One that a dictionary may have as a key."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def test_pools_leave_the_same_nodes() -> None:
    captioners = pool_on(one="a", two="b", three="c")
    taggers = pool_on(four="a", five="a", six="b")
    Resizer(Told(changes={"caption": 1, "tag_audio": 1})).step(topology(caption=captioners, tag_audio=taggers))
    assert set(captioners._running_actors) == {"one"}
    assert len(taggers._running_actors) == 1
    assert "six" not in taggers._running_actors, "a is left to both"


def test_a_worker_with_a_block_gets_no_more_and_goes_when_it_has_done_it() -> None:
    pool = pool_on(one="a", two="b")
    for actor in ("one", "two", "two", "two"):
        pool.on_task_submitted(actor)
    told = Told(changes={"caption": 1})
    resizer, graph = Resizer(told), topology(caption=pool)
    resizer.step(graph)
    assert told.seen == [
        PoolLoad(stage="caption", pending=0, running=2, active=2, blocks=4, calls=CALLS, least=1, began=2)
    ]
    assert len(pool._running_actors) == 2
    refresh(pool)
    resizer.step(graph)
    assert pool.select_actors() == "two", "although that has more"
    assert set(pool._running_actors) == {"one", "two"}
    pool.on_task_completed("one")
    resizer.step(graph)
    assert set(pool._running_actors) == {"two"}


def test_a_worker_that_is_needed_after_all_works_on_and_those_to_come_go_first() -> None:
    pool = pool_on(one="a", two="b")
    pool.on_task_submitted("one")
    pool.on_task_submitted("two")
    told = Told(changes={"caption": 1})
    resizer, graph = Resizer(told), topology(caption=pool)
    resizer.step(graph)
    told.changes = {"caption": 4}
    resizer._next = 0.0
    resizer.step(graph)
    refresh(pool)
    resizer.step(graph)
    assert {pool.select_actors()} <= {"one", "two"}
    assert len(pool._alive_actors_to_in_flight_tasks_heap) == 2
    assert pool.num_pending_actors() == 2
    pool._last_upscaled_at = None
    told.changes = {"caption": 2}
    resizer._next = 0.0
    resizer.step(graph)
    assert (pool.num_pending_actors(), set(pool._running_actors)) == (0, {"one", "two"})


def test_a_pool_that_let_workers_go_has_no_room_for_more_until_it_may() -> None:
    pool = pool_on(one="a", two="b")
    told = Told(changes={"caption": 1}, held=frozenset({"caption"}))
    resizer, graph = Resizer(told), topology(caption=pool)
    for _ in range(2):
        resizer._next = 0.0
        resizer.step(graph)
    assert (pool.current_size(), pool.max_size()) == (1, 1)
    told.changes, told.held, resizer._next = {"caption": 2}, frozenset(), 0.0
    resizer.step(graph)
    assert (pool.current_size(), pool.max_size()) == (2, 9)


def test_what_fails_in_ray_is_said_once_and_ends_no_run(caplog: pytest.LogCaptureFixture) -> None:
    with resizing(1.0):
        (kind,) = DataContext.get_current().custom_execution_callback_classes
        callback: Any = kind()
        for _ in range(2):
            callback.on_execution_step(SimpleNamespace(_topology={"no operator": None}))
    assert caplog.text.count("pools keep their workers from here") == 1
    assert DataContext.get_current().custom_execution_callback_classes == []
