"""The gate: how much may be out, what it says twice, and who holds a GPU."""

import asyncio

import pytest

from pipeline.gate import GATE_DEATHS, Gate, GateConfig, Gates, PassSeen
from pipeline.heartbeat import SILENT_SECONDS, WorkerPhase, WorkerState
from records.errors import FatalError


def state(phase: WorkerPhase = "ready", node: str = "node") -> WorkerState:
    return WorkerState(phase=phase, phase_seconds=1.0, calls=0, busy_seconds=0.0, node=node, pid=1)


def test_what_one_task_reads_always_fits_and_the_next_waits_for_room() -> None:
    async def run() -> None:
        gate = Gate(GateConfig(max_rows_out=10))
        assert await gate.admit({"00000000": 8, "00000001": 8})
        assert not (await gate.rows_back(0)).is_full
        second = asyncio.create_task(gate.admit({"00000002": 4}))
        await asyncio.sleep(0)
        assert (await gate.rows_back(9)).is_full
        await asyncio.sleep(0)
        assert not second.done()
        assert (await gate.rows_back(10)).rows_issued == 16
        assert await asyncio.wait_for(second, 10)
        assert not (await gate.rows_back(10)).is_full
        assert (await gate.end_pass()).issued == ["00000000", "00000001", "00000002"]

    asyncio.run(run())


def test_shards_wait_while_too_many_are_open_however_few_rows_are_out() -> None:
    async def run() -> None:
        gate = Gate(GateConfig(max_rows_out=100, max_open_shards=2))
        assert await gate.admit({"00000000": 8})
        assert await gate.admit({"00000001": 8})
        third = asyncio.create_task(gate.admit({"00000002": 8}))
        await gate.rows_back(15, 0)
        await asyncio.sleep(0)
        assert not third.done(), "one row keeps a shard open"
        await gate.rows_back(15, 1)
        assert await asyncio.wait_for(third, 10)
        waiting = asyncio.create_task(gate.admit({"00000003": 8}))
        await gate.rows_back(15, 1)
        await asyncio.sleep(0)
        assert not waiting.done()
        await gate.rows_back(24, 1)
        assert await asyncio.wait_for(waiting, 10), "with no row out nothing else would end the wait"
        await gate.end_pass()
        assert await gate.admit({"00000000": 8, "00000001": 8})

    asyncio.run(run())


def test_a_stop_ends_the_wait_and_what_was_let_in_stays_so() -> None:
    async def run() -> None:
        gate = Gate(GateConfig(max_rows_out=10))
        assert await gate.admit({"00000000": 10})
        waiting = asyncio.create_task(gate.admit({"00000001": 10}))
        await asyncio.sleep(0)
        await gate.stop()
        assert not await asyncio.wait_for(waiting, 10)
        assert await gate.admit({"00000000": 10}), "a task that runs again must yield the same rows"
        assert not await gate.admit({"00000002": 1})
        await gate.cannot_read("00000003", "no such object")
        await gate.started("00000000", "clip", 1, "caption")
        seen = PassSeen(
            issued=["00000000"],
            unread={"00000003": "no such object"},
            running={("00000000", "clip", 1): "caption"},
        )
        assert await gate.end_pass() == seen
        assert await gate.end_pass() == PassSeen(issued=[]), "each pass is told of once"

    asyncio.run(run())


def test_workers_hold_gpus_while_they_are_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("pipeline.gate.time.monotonic", lambda: now)

    async def workers(gate: Gate, *beats: tuple[str, str]) -> dict[str, int]:
        for stage, worker in beats:
            await gate.beat(stage, worker, state())
        return dict((await gate.rows_back(0)).workers)

    async def run() -> None:
        nonlocal now
        gate = Gate(GateConfig())
        assert await workers(gate, ("caption", "a"), ("caption", "b"), ("caption", "a"), ("embed", "c")) == {
            "caption": 2,
            "embed": 1,
        }
        now += 15.0
        await gate.beat("caption", "a", state())
        now += 10.0
        assert await workers(gate) == {"caption": 1}
        await gate.beat("embed", "d", state("queues"))
        await gate.beat("embed", "e", state("loads"))
        assert await workers(gate) == {"caption": 1, "embed": 2}
        assert (await gate.rows_back(0)).loading == {"embed": 2}

    asyncio.run(run())


def test_a_worker_that_ends_while_it_loads_has_failed_unless_its_node_went(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("pipeline.gate.time.monotonic", lambda: now)

    async def run() -> None:
        nonlocal now
        gate = Gate(GateConfig(), lambda: {"node"})
        await gate.beat("caption", "a", state(phase="loads"))
        await gate.beat("caption", "b", state(phase="loads", node="gone"))
        assert (await gate.rows_back(0)).start_errors == {}
        now += SILENT_SECONDS + 1
        (reason,) = (await gate.rows_back(0)).start_errors["caption"]
        assert "ended while its model loaded" in reason
        assert len((await gate.rows_back(0)).start_errors["caption"]) == 1, "told once"
        await gate.beat("caption", "c", state())
        assert (await gate.rows_back(0)).start_errors == {}, "one that is ready proves that the model can load"

    asyncio.run(run())


def test_a_worker_that_cannot_build_its_stage_is_not_heard_of_again() -> None:
    async def run() -> None:
        gate = Gate(GateConfig())
        for name in ("a", "b"):
            await gate.beat("caption", name, state("loads"))
        await gate.cannot_start("caption", "a", "OSError: no such model")
        assert not await gate.beat("caption", "a", state("loads")), "its process may take its time to end"
        seen = await gate.rows_back(0)
        assert ([one.worker for one in seen.seen], dict(seen.workers)) == (["b"], {"caption": 1})
        assert seen.start_errors == {"caption": ["OSError: no such model"]}

    asyncio.run(run())


def test_gates_may_die_as_often_as_they_like_while_rows_come_back() -> None:
    opened = []
    gates = Gates(lambda: opened.append("gate"))
    for rows in range(3 * GATE_DEATHS):
        gates.open_again(ValueError("it was killed"), rows)
    assert len(opened) == 3 * GATE_DEATHS
    for _ in range(GATE_DEATHS - 2):
        gates.open_again(ValueError("it was killed"), rows)
    with pytest.raises(FatalError, match=r"3 times .*the same command goes on from here: ValueError: it was killed"):
        gates.open_again(ValueError("it was killed"), rows)
    assert len(opened) == 4 * GATE_DEATHS - 2
