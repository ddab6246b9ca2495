"""The gate: how much may be out, what it says twice, and who holds a GPU."""

import asyncio
from functools import partial

import pytest

from actors.stage import PoolConfig
from pipeline.gate import Gate, GateConfig
from pipeline.spec import StageSpec
from pipeline.worker import StageHolder


def test_what_one_task_reads_always_fits_and_the_next_waits_for_room() -> None:
    async def run() -> None:
        gate = Gate(GateConfig(max_rows_out=10))
        assert await gate.admit({"00000000": 8, "00000001": 8})
        second = asyncio.create_task(gate.admit({"00000002": 4}))
        await asyncio.sleep(0)
        await gate.rows_back(9)
        await asyncio.sleep(0)
        assert not second.done()
        assert (await gate.rows_back(10)).rows_issued == 16
        assert await asyncio.wait_for(second, 10)
        assert await gate.issued() == ["00000000", "00000001", "00000002"]

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
        assert await gate.unread() == {"00000003": "no such object"}
        await gate.new_pass()
        assert (await gate.issued(), await gate.unread()) == ([], {})

    asyncio.run(run())


def test_workers_hold_gpus_while_they_are_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("pipeline.gate.time.monotonic", lambda: now)

    async def workers(gate: Gate, *beats: tuple[str, str]) -> dict[str, int]:
        for stage, worker in beats:
            await gate.beat(stage, worker)
        return dict((await gate.rows_back(0)).workers)

    async def run() -> None:
        nonlocal now
        gate = Gate(GateConfig())
        assert await workers(gate, ("caption", "a"), ("caption", "b"), ("caption", "a"), ("embed", "c")) == {
            "caption": 2,
            "embed": 1,
        }
        now += 15.0
        await gate.beat("caption", "a")
        now += 10.0
        assert await workers(gate) == {"caption": 1}

    asyncio.run(run())


class Heard:
    """A teller that remembers who was heard of."""

    def __init__(self) -> None:
        self.beats: list[str] = []

    def beat(self, stage: str, worker: str) -> None:
        self.beats.append(stage)

    def started(self, line: object, stage: str) -> None:
        raise AssertionError("no item runs here")

    def cannot_start(self, stage: str, reason: str) -> None:
        raise AssertionError("the stage starts")


def test_only_workers_with_a_gpu_are_heard_of_and_from_before_their_stage_is_built() -> None:
    for gpus in (0.0, 0.5):
        heard, built = Heard(), list[int]()

        def build(heard: Heard, built: list[int]) -> object:
            built.append(len(heard.beats))
            return object()

        spec = StageSpec(
            name="caption", fingerprint="c", pool=PoolConfig(num_gpus=gpus), build=partial(build, heard, built)
        )
        StageHolder(spec, heard)
        assert (len(heard.beats) > 0) == (gpus > 0)
        assert built == [1 if gpus else 0]
