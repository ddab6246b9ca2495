"""When a stopping run no longer waits for rows, and when it ends without its main thread."""

from dataclasses import dataclass, field

import pytest

from pipeline.drain import LEAVE_SECONDS, SILENT_SECONDS, UNHURRIED_LEAVE_SECONDS, Drain
from pipeline.limits import Limits
from pipeline.stop import DrainOver, StopFlag

SECONDS = 20.0


@dataclass
class Stopping:
    """A drain at a time that the test sets."""

    now: float = 100.0
    flag: StopFlag = field(default_factory=StopFlag)
    limits: Limits = field(default_factory=Limits)
    left: list[StopFlag] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.drain = Drain(
            flag=self.flag,
            limits=self.limits,
            seconds=SECONDS,
            clock=lambda: self.now,
            leave=self.left.append,
        )

    def after(self, seconds: float, *, expects_rows: bool = True) -> bool:
        """Whether the drain is over so much later."""
        self.now += seconds
        self.drain.watch(expects_rows=expects_rows)
        try:
            with self.flag.waiting():
                return False
        except DrainOver:
            return True


@pytest.fixture
def stopping() -> Stopping:
    one = Stopping()
    one.flag.set("received SIGTERM", signal_number=15)
    return one


def test_a_run_that_does_not_stop_never_drains(stopping: Stopping) -> None:
    assert not stopping.after(1e6, expects_rows=False)


def test_rows_may_come_back_for_so_long(stopping: Stopping) -> None:
    stopping.drain.begin()
    assert not stopping.after(SECONDS - 1)
    stopping.drain.begin()  # asked again, it goes on from its first beginning
    assert stopping.after(1)
    assert not stopping.left


def test_nothing_is_waited_for_where_nothing_can_come_back(stopping: Stopping) -> None:
    stopping.drain.begin()
    assert stopping.after(0, expects_rows=False)


def test_the_process_ends_where_its_main_thread_does_not_leave(stopping: Stopping) -> None:
    stopping.drain.begin()
    assert stopping.after(0, expects_rows=False)
    stopping.after(LEAVE_SECONDS, expects_rows=False)
    assert not stopping.left
    stopping.after(1, expects_rows=False)
    assert stopping.left == [stopping.flag]


def test_without_a_signal_the_process_waits_for_a_main_thread_that_is_at_work_and_longer_where_it_leaves() -> None:
    one = Stopping()
    one.flag.set("the deadline is over", planned=True)
    one.limits.seconds = 0.0
    one.drain.begin()
    for _ in range(10):  # handing tasks to Ray, or committing
        one.now += UNHURRIED_LEAVE_SECONDS
        one.drain.watch(expects_rows=False)
    assert not one.left
    assert one.after(0), "then it comes to its wait, and leaves it at once"
    one.now += UNHURRIED_LEAVE_SECONDS
    one.drain.watch(expects_rows=False)
    assert not one.left
    one.now += 1
    one.drain.watch(expects_rows=False)
    assert one.left == [one.flag]


def test_a_planned_stop_drains_until_its_limit_and_a_signal_ends_it_sooner() -> None:
    one = Stopping(limits=Limits(seconds=3600.0))
    one.flag.set("the deadline is near", planned=True)
    one.drain.begin()
    assert not one.after(10 * SECONDS), "the limit is far"
    one.flag.set("received SIGTERM", signal_number=15)
    one.drain.begin_anew()
    assert not one.after(SECONDS - 1)
    assert one.after(1)


def test_after_a_signal_the_process_saves_and_leaves_where_ray_does_not_answer() -> None:
    saved: list[int] = []
    one = Stopping()

    def tick(asking_since: float | None) -> bool:
        one.drain.leave_without_ray(asking_since, lambda: saved.append(len(one.left)))
        return bool(one.left)

    assert not tick(one.now - 10 * SILENT_SECONDS), "a cluster that is busy is waited for"
    one.flag.set("received SIGTERM", signal_number=15)
    one.drain.begin_anew()
    assert not tick(None), "it answers"
    assert not tick(one.now - SILENT_SECONDS + 1)
    assert tick(one.now - SILENT_SECONDS)
    assert saved == [0], "first of all"
