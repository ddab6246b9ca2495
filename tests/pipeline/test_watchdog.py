"""The watchdog: what counts as progress, how long each wait may last, and which stage is blamed."""

from dataclasses import dataclass, field, replace

import pytest

from pipeline.heartbeat import WorkerPhase, WorkerState
from pipeline.watchdog import Watchdog, WorkerSeen


def worker(stage: str, name: str = "", phase: WorkerPhase = "ready", calls: int = 0, busy: float = 0.0) -> WorkerSeen:
    state = WorkerState(phase=phase, phase_seconds=40.0, calls=calls, busy_seconds=busy, node="f" * 56, pid=7)
    return WorkerSeen(stage=stage, worker=name or stage, state=state, silent_seconds=0.0)


@dataclass
class Watched:
    """A watchdog under a clock of its own: 100 s for starts, 10 s once all stages have workers."""

    now: float = 0.0
    dog: Watchdog = field(init=False)

    def __post_init__(self) -> None:
        stages = ("decode", "caption")
        self.dog = Watchdog(stages=stages, start_seconds=100.0, stuck_seconds=10.0, clock=lambda: self.now)

    def after(
        self, seconds: float, *seen: WorkerSeen, issued: int = 0, arrived: int = 0, error: str = ""
    ) -> str | None:
        self.now += seconds
        still = self.dog.observe(issued, arrived, seen, {"caption": error} if error else {})
        return f"{still.stage}: {still.reason}" if still is not None else None


READY = (worker("decode"), worker("caption"))


def test_a_run_whose_stages_are_all_ready_may_stand_still_for_the_shorter_time() -> None:
    watched = Watched()
    assert watched.after(0.0, *READY) is None
    assert watched.after(9.9, *READY) is None
    assert watched.after(0.2, worker("decode"), worker("caption", busy=12.0)) == (
        "caption: stuck in caption: nothing has moved for 10 s, its oldest call runs for 12 s "
        "(node ffffffffffff, process 7)"
    )


def test_rows_and_calls_are_progress_and_a_worker_that_starts_again_is_none() -> None:
    watched = Watched()
    assert watched.after(0.0, *READY) is None
    assert watched.after(9.0, *READY, issued=8) is None
    assert watched.after(9.0, *READY, issued=8, arrived=1) is None
    again = (worker("decode", calls=1), worker("caption"))
    assert watched.after(9.0, *again, issued=8, arrived=1) is None
    again = (worker("decode", calls=1), worker("caption", name="another"))
    assert watched.after(9.0, *again, issued=8, arrived=1) is None
    assert watched.after(1.1, *again, issued=8, arrived=1) is not None


def test_a_stage_without_a_ready_worker_has_the_longer_time_and_is_blamed_with_its_own_error() -> None:
    watched = Watched()
    assert watched.after(0.0, worker("decode")) is None
    assert watched.after(99.0, worker("decode")) is None
    reason = watched.after(2.0, worker("decode"), error="RuntimeError: no memory")
    assert reason is not None
    assert reason.startswith("caption: ")
    assert reason.endswith("nothing has moved for 101 s; its last one failed: RuntimeError: no memory")


def test_a_model_that_loads_for_ever_ends_the_run_while_another_stage_still_works() -> None:
    def loading(seconds: float) -> WorkerSeen:
        one = worker("caption", phase="loads")
        return replace(one, state=replace(one.state, phase_seconds=seconds))

    watched = Watched()
    for call in range(3):
        assert watched.after(50.0, worker("decode", calls=call), loading(50.0 * call)) is None
    reason = watched.after(50.0, worker("decode", calls=3), loading(150.0), error="OSError: no such model")
    assert reason is not None
    assert reason.startswith("caption: caption has had no worker that is ready; one has loaded its model for 150 s")
    assert reason.endswith("its last one failed: OSError: no such model")
    ready = Watched()
    assert ready.after(0.0, *READY) is None
    assert ready.after(1.0, *READY, replace(loading(150.0), worker="second"), issued=1) is None


@pytest.mark.parametrize(
    ("phase", "words"),
    [("loads", "one has loaded its model for 40 s"), ("queues", "one has waited for its turn on the GPU for 40 s")],
)
def test_loading_and_waiting_for_a_gpu_are_told_apart(phase: WorkerPhase, words: str) -> None:
    watched, seen = Watched(), (worker("decode"), worker("caption", phase=phase))
    assert watched.after(0.0, *seen) is None
    reason = watched.after(101.0, *seen)
    assert reason is not None
    assert words in reason


def test_a_stage_that_no_node_has_room_for_is_named() -> None:
    watched = Watched()
    assert watched.after(0.0) is None
    assert str(watched.after(101.0)).endswith("no node had room for one")


def test_workers_that_all_wait_are_nobodys_fault() -> None:
    watched = Watched()
    assert watched.after(0.0, *READY) is None
    assert "every worker waits for rows" in str(watched.after(11.0, *READY))


def test_a_pass_is_idle_once_nothing_moves_and_nobody_loads_or_works() -> None:
    watched = Watched()
    assert watched.after(0.0, *READY) is None
    assert watched.after(6.0, *READY) is None
    assert watched.dog.is_idle(READY, 6.0)
    assert not watched.dog.is_idle(READY, 6.1)
    assert not watched.dog.is_idle((worker("decode"), worker("caption", busy=6.0)), 6.0), "a long call is no standstill"
    assert not watched.dog.is_idle((worker("decode"), worker("caption", phase="loads")), 6.0)
    lost = replace(worker("caption", busy=6.0), silent_seconds=61.0)
    assert watched.dog.is_idle((worker("decode"), lost), 6.0), "it went in the middle of its call"
    assert watched.after(1.0, *READY, issued=8) is None
    assert not watched.dog.is_idle(READY, 1.0)


def test_a_stage_that_was_ready_once_counts_as_started() -> None:
    watched = Watched()
    assert watched.after(0.0, worker("decode"), worker("caption", phase="loads")) is None
    assert not watched.dog.all_were_ready(())
    assert watched.dog.all_were_ready((worker("caption"),)), "decode was, and caption is"
    assert watched.after(1.0, *READY) is None
    assert watched.dog.all_were_ready(()), "whatever is heard of them since"
