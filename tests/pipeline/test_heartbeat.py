"""What a worker says of itself, and when it leaves on its own."""

import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.stage import PoolConfig
from pipeline import heartbeat
from pipeline.gpu_turn import gpu_turn
from pipeline.heartbeat import ORPHAN_EXIT, Answer, Heartbeat, WorkerState
from pipeline.spec import StageSpec
from pipeline.worker import StageHolder


class Heard:
    """A teller that remembers in which phase a worker was, and answers as it is told to."""

    def __init__(self, idle: Answer = "go on", busy: Answer = "go on") -> None:
        self.idle, self.busy = idle, busy
        self.phases: list[str] = []
        self.texts: list[str] = []

    def beat(self, stage: str, worker: str, state: WorkerState) -> Answer:
        self.phases.append(state.phase)
        return self.busy if state.busy_seconds > 0 else self.idle

    def stacks(self, stage: str, worker: str, text: str) -> None:
        self.texts.append(text)

    def node(self) -> str:
        return "node"

    def started(self, line: object, stage: str) -> None:
        raise AssertionError("no item runs here")

    def cannot_start(self, stage: str, worker: str, reason: str) -> None:
        self.texts.append(f"{stage} {reason}")


@pytest.fixture(autouse=True)
def _gpus_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker without GPUs makes of them ends with the test."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the worker has left; here its thread alone stands still."""
    event = threading.Event()

    def leave(code: int) -> None:
        assert code == ORPHAN_EXIT
        event.set()
        threading.Event().wait()

    monkeypatch.setattr("pipeline.heartbeat.os._exit", leave)
    monkeypatch.setattr("pipeline.heartbeat.logging.shutdown", lambda: None)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(heartbeat, "ORPHAN_SECONDS", 0.1)
    return event


@contextmanager
def ready_worker(heard: Heard) -> Iterator[Heartbeat]:
    worker = Heartbeat(heard, "caption", "node")
    worker.enter("ready")
    yield worker
    heard.idle = heard.busy = "go on"


def beats(heard: Heard, more: int, left: threading.Event) -> None:
    """Waits until the worker has been heard of so often again, or has left."""
    enough = len(heard.phases) + more
    while len(heard.phases) < enough and not left.is_set():
        left.wait(0.01)


def test_a_worker_is_heard_of_before_its_stage_is_built_and_says_when_it_is_ready() -> None:
    heard, built = Heard(), list[list[str]]()

    def build() -> object:
        built.append(list(heard.phases))
        return object()

    StageHolder(StageSpec(name="caption", fingerprint="c", build=build), heard)
    assert built[0][-1] == "loads"
    assert heard.phases[-1] == "ready"


def test_a_stage_that_cannot_be_built_is_told_of_before_the_worker_ends() -> None:
    def build() -> object:
        raise OSError("no such model")

    heard = Heard()
    with pytest.raises(OSError, match="no such model"):
        StageHolder(StageSpec(name="caption", fingerprint="c", build=build), heard)
    assert heard.texts == ["caption OSError: no such model"]


def test_what_needs_no_gpu_does_not_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    heard, did, prepared = Heard(), list[str](), threading.Event()

    def prepare() -> None:
        did.append(f"prepares, {heard.phases[-1]}")
        prepared.set()

    spec = StageSpec(
        name="caption",
        fingerprint="c",
        pool=PoolConfig(num_gpus=0.5),
        prepare=prepare,
        build=lambda: did.append(f"builds, {heard.phases[-1]}"),
    )
    with ThreadPoolExecutor(1) as thread:
        with gpu_turn(0.5):
            worker = thread.submit(StageHolder, spec, heard)
            assert prepared.wait(10)
            assert not worker.done()
        worker.result(timeout=10)
    assert did == ["prepares, loads", "builds, loads"]
    assert "queues" in heard.phases[heard.phases.index("loads") :]


@pytest.mark.parametrize(("num_gpus", "seen"), [(0.0, ""), (1.0, "0")])
def test_a_stage_that_holds_no_gpu_is_built_where_none_is_seen(num_gpus: float, seen: str) -> None:
    built: list[str] = []

    def build() -> object:
        built.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return object()

    spec = StageSpec(name="embed", fingerprint="e", pool=PoolConfig(num_gpus=num_gpus), build=build)
    StageHolder(spec, None)
    assert built == [seen]


def test_a_worker_whose_call_hangs_answers_with_the_stack_of_that_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    heard, told = Heard(busy="stacks"), threading.Event()
    holder = StageHolder(StageSpec(name="caption", fingerprint="c", build=object), heard)

    def a_call_that_waits(stage: object) -> None:
        while not heard.texts:
            told.wait(0.01)

    holder.call(a_call_that_waits)
    assert "a_call_that_waits" in heard.texts[0]
    assert "thread MainThread" in heard.texts[0]


def test_a_worker_that_still_works_when_its_phase_is_over_leaves(left: threading.Event) -> None:
    heard = Heard(busy="over")
    with ready_worker(heard) as worker, worker.call():
        assert left.wait(10)


def test_a_worker_that_still_loads_when_its_phase_is_over_leaves(left: threading.Event) -> None:
    heard = Heard(idle="over")
    Heartbeat(heard, "caption", "node").enter("loads")
    assert left.wait(10)


def test_a_worker_that_is_idle_when_its_phase_is_over_is_left_to_ray(left: threading.Event) -> None:
    heard = Heard(idle="over")
    with ready_worker(heard):
        beats(heard, 30, left)
        assert not left.is_set()


def test_a_call_that_ends_soon_after_its_phase_may_end(left: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "ORPHAN_SECONDS", 3600)
    heard = Heard(busy="over")
    with ready_worker(heard) as worker:
        with worker.call():
            beats(heard, 2, left)
        monkeypatch.setattr(heartbeat, "ORPHAN_SECONDS", 0)
        beats(heard, 30, left)
        assert not left.is_set()
