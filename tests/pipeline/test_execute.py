"""How the driver's loop stops where the store fails or hangs: no Ray, nothing is asked of the graph but to stop."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from pipeline.execute import Phase
from pipeline.gate import Gates
from pipeline.graph import GraphConfig
from pipeline.loop_config import LoopConfig
from pipeline.stop import SAME_SIGNAL_SECONDS, DrainOver, PassOver, StopFlag, watch_signals
from pipeline.watchdog import Standstill, Watchdog
from records.errors import UserError

HANGS = """
import threading
from types import SimpleNamespace
from tests.pipeline.test_execute import phase_with
from pipeline.stop import watch_signals

phase = phase_with(SimpleNamespace(flush_journal=lambda: threading.Event().wait(60)))
with watch_signals(phase.flag, phase.on_signal):  # commit and journal wait for a store that does not answer
    print("begun", flush=True)
    threading.Event().wait(60)
"""


@dataclass
class Stop:
    """The gate's method."""

    asked: list[None] = field(default_factory=list)

    def remote(self) -> None:
        self.asked.append(None)


class FullDisk:
    """A committer whose journal cannot be written."""

    def flush_journal(self) -> int:
        raise UserError("runs/: the disk is full")


def no_gate() -> None:
    raise AssertionError("nothing opens a gate")


def phase_with(committer: Any, kind: type[Phase] = Phase, gates: Gates | None = None) -> Phase:  # noqa: ANN401 - a stand-in
    """A phase that can be told to stop."""
    graph: Any = SimpleNamespace(gate=SimpleNamespace(stop=Stop()), config=GraphConfig())
    stats: Any = None
    return kind(
        graph=graph,
        gates=gates or Gates(no_gate),
        committer=committer,
        stats=stats,
        flag=StopFlag(),
        config=LoopConfig(drain_seconds=3600.0),
        tripped=lambda: None,
    )


class NoAnswer:
    """A method of a gate that is gone."""

    def remote(self, *arguments: object) -> None:
        raise ray.exceptions.ActorDiedError


class FewPasses(Phase):
    """A phase whose first passes are given up, or lose their gate, and that then has all rows."""

    passes = 0

    def _pass(self, tasks: Any, *, one_by_one: bool) -> None:  # noqa: ANN401 - a stand-in
        self.passes += 1
        self._gave_up = False

    def _lost(self, tasks: Any, presets: object) -> Any:  # noqa: ANN401 - a stand-in
        return tasks if self.passes < 3 else []


@dataclass
class LightGraph:
    """A graph without Ray."""

    gate: Any
    specs: tuple[str, ...] = ("decode", "caption")
    placements: object = "as before"

    def reader(self) -> None:
        pass


def test_after_a_gate_that_died_all_runs_as_before_with_another(caplog: pytest.LogCaptureFixture) -> None:
    dead = SimpleNamespace(end_pass=NoAnswer())
    rows = SimpleNamespace(begin_pass=lambda: None, rows=0, lock=threading.RLock())
    opened: list[object] = []

    def open_dead() -> object:
        opened.append(dead)
        rows.rows += 1
        return dead

    phase = phase_with(rows, FewPasses, gates=Gates(open_dead))
    graph: Any = LightGraph(dead)
    phase.graph = graph
    anew: Any = object()
    phase.place_anew = lambda before: anew if before is graph.placements or before is anew else {}
    tasks: Any = range(5)
    phase._isolate(tasks)
    assert (phase.graph is not graph, phase.graph.gate, opened) == (True, dead, [dead] * 3)
    assert caplog.text.count("the gate died, opening another") == 3
    assert caplog.text.count("5 shards did not come back whole, running the 5 of them that were not read") == 3
    assert phase.graph.placements is anew


def test_a_dead_gate_ends_the_wait_for_rows_once_a_pass() -> None:
    phase = phase_with(SimpleNamespace())
    phase.graph.gate.rows_back = NoAnswer()
    phase._watchdog = Watchdog(stages=["caption"], start_seconds=1.0, stuck_seconds=1.0)
    assert phase._ask_gate(0, 0) is None
    assert phase._ask_gate(0, 0) is None
    with pytest.raises(PassOver), phase.flag.waiting():
        pass
    with phase.flag.waiting():
        pass
    phase.flag.set("received SIGTERM", signal_number=15)
    with pytest.raises(ray.exceptions.RayActorError):  # Ray's own processes took the signal as well
        phase._ask_gate(0, 0)


def test_a_standstill_ends_with_its_own_reason_also_where_ray_does_not_answer() -> None:
    phase = phase_with(None)
    phase.graph.gate.want_stacks = NoAnswer()
    phase._end_standstill(Standstill(stage="caption", reason="stuck in caption"))
    assert str(phase.flag.error) == "stuck in caption"


def test_ray_that_took_the_signal_as_well_is_no_error_of_the_run() -> None:
    phase = phase_with(SimpleNamespace(flush_journal=lambda: 3))
    gone = ray.exceptions.RayActorError()
    phase._fail(gone)
    assert phase.flag.error is gone, "nobody was told to stop"
    phase = phase_with(SimpleNamespace(flush_journal=lambda: 3))
    phase.on_signal(15)
    phase._fail(gone)
    assert (phase.flag.error, phase._expects_rows) == (None, False)
    phase._fail(ValueError("a mistake in the code"))
    assert isinstance(phase.flag.error, ValueError)


def test_a_second_signal_leaves_at_once_while_the_store_hangs() -> None:
    with subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.terminate()
        process.terminate()  # as GNU timeout, which signals the process and then its group
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2 * SAME_SIGNAL_SECONDS)
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert b"received SIGTERM again, leaving now" in said


def test_a_signal_whose_journal_fails_ends_the_run_with_that_error() -> None:
    phase = phase_with(FullDisk())
    housekeeper = threading.Thread(target=phase._keep_house, daemon=True)
    housekeeper.start()
    threading.Thread(target=phase._watch_drain, daemon=True).start()
    with watch_signals(phase.flag, phase.on_signal):
        os.kill(os.getpid(), 15)
        with pytest.raises(DrainOver), phase.flag.waiting():
            threading.Event().wait(30)
    phase._over.set()
    phase._all_over.set()
    housekeeper.join()
    assert phase.flag.reason == "received SIGTERM"
    assert "the disk is full" in str(phase.flag.error)
    assert phase.graph.gate.stop.asked
