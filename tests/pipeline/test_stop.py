"""The first reason to stop stays, but a signal is more urgent than a plan; and how the main thread is made to leave."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pipeline.stop import DrainOver, PassOver, StopFlag, watch_signals


def wait_for_ever(flag: StopFlag) -> None:
    """As Ray Data waits for a block that its prefetching thread brings."""
    with flag.waiting():
        queue.Queue[None]().get(timeout=30)
    raise AssertionError("nobody ended the wait")


def test_the_first_reason_stays() -> None:
    flag = StopFlag()
    assert flag.set("received SIGTERM", signal_number=15)
    assert not flag.set("the deadline is near", planned=True)
    assert not flag.set("received SIGTERM", signal_number=15), "the second signal is told from the first"
    assert (flag.reason, flag.planned, flag.signal_number) == ("received SIGTERM", False, 15)


def test_a_signal_overtakes_a_planned_stop_once() -> None:
    flag = StopFlag()
    assert flag.set("the deadline is near", planned=True)
    assert not flag.set("another run may hold the lease")
    assert flag.set("received SIGTERM", signal_number=15)
    assert (flag.reason, flag.planned, flag.signal_number) == ("received SIGTERM", False, 15)
    assert not flag.set("received SIGINT", signal_number=2)


def test_the_first_signal_is_heard_in_any_other_stop_and_says_the_exit_code() -> None:
    flag, first = StopFlag(), ValueError("the disk is full")
    assert flag.set("too many rows failed alike")
    assert flag.set("received SIGTERM", signal_number=15)
    assert not flag.set("received SIGTERM", signal_number=15)
    assert (flag.reason, flag.signal_number) == ("too many rows failed alike", 15)
    other = StopFlag()
    assert other.fail(first)
    assert other.set("received SIGTERM", signal_number=15)
    assert (other.error, other.signal_number) == (first, 15)


def test_a_pass_that_is_given_up_is_nobodys_signal_and_the_next_signal_counts() -> None:
    flag, heard, told = StopFlag(), list[int](), threading.Event()

    def on_signal(number: int) -> None:
        heard.append(number)
        told.set()

    with watch_signals(flag, on_signal):
        for _ in range(3):
            threading.Timer(0.05, flag.end_pass).start()
            with pytest.raises(PassOver):
                wait_for_ever(flag)
        os.kill(os.getpid(), signal.SIGTERM)
        assert told.wait(10)
    assert heard == [signal.SIGTERM]
    assert not flag.is_set


def test_a_pass_ends_only_where_its_rows_are_waited_for() -> None:
    flag = StopFlag()
    with watch_signals(flag, lambda number: None):
        flag.end_pass()
        assert sum(range(100_000)) > 0  # at work: the signal has come, and nothing is raised
        with pytest.raises(PassOver), flag.waiting():
            raise AssertionError("the wait begins although the pass is over")
        flag.end_pass()
        flag.begin_pass()
        with flag.waiting():
            pass


def test_a_drain_ends_only_where_rows_are_waited_for_and_stays_over() -> None:
    flag = StopFlag()
    with watch_signals(flag, lambda number: None):
        threading.Timer(0.05, flag.end_drain).start()
        with pytest.raises(DrainOver):
            wait_for_ever(flag)
        flag.end_drain()
        assert sum(range(100_000)) > 0  # as the last shards are committed
        with pytest.raises(DrainOver), flag.waiting():
            raise AssertionError("the wait begins although the drain is over")


def test_what_a_drain_passes_on_its_way_out_is_let_end() -> None:
    """As Ray Data's iterator shuts its execution down, while the drain is ended again each second."""
    flag, ended = StopFlag(), list[bool]()

    def blocks() -> Iterator[None]:
        try:
            queue.Queue[None]().get(timeout=30)
            yield
        finally:
            flag.end_drain()
            threading.Event().wait(0.2)
            ended.append(True)

    with watch_signals(flag, lambda number: None):
        threading.Timer(0.05, flag.end_drain).start()
        with pytest.raises(DrainOver), flag.waiting():
            next(blocks())
    assert ended == [True]


def test_an_error_counts_also_where_the_run_was_to_stop_already() -> None:
    flag, first = StopFlag(), ValueError("the disk is full")
    assert flag.set("the deadline is near", planned=True)
    assert flag.fail(first)
    assert not flag.fail(ValueError("and again"))
    assert (flag.reason, flag.error, flag.planned) == ("the deadline is near", first, False)
    other = StopFlag()
    assert other.fail(first)
    assert other.reason == "ValueError: the disk is full"


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ("flag.set('received SIGINT', signal_number=2)", 130, ""),
        ("flag.fail(ValueError('the disk is full'))", 1, "error: the disk is full\n"),
        (
            "flag.set('the deadline is over', planned=True)",
            1,
            "error: the run was to stop (the deadline is over), and something of it did not end\n",
        ),
    ],
)
def test_a_process_that_cannot_wait_leaves_with_the_code_of_its_reason(asked: str, code: int, said: str) -> None:
    program = f"from pipeline.stop import StopFlag, leave_now\nflag = StopFlag()\n{asked}\nleave_now(flag)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)
