"""The first reason to stop stays, but a signal is more urgent than a plan."""

from pipeline.stop import StopFlag


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
