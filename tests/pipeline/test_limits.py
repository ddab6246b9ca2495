"""A planned stop comes early enough for what is on its way, and not before."""

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.limits import Limits, parse_deadline
from records.errors import UserError


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def at_pace(limits: Limits, clock: Clock, *, seconds: int, rate: int, in_flight: int, workers: int = 0) -> None:
    """Rows come back at a steady rate, and so many are always on their way."""
    for second in range(seconds + 1):
        limits.observe(issued=second * rate + in_flight, arrived=second * rate, workers={"caption": workers})
        clock.now += 1.0


def test_reading_stops_as_long_before_the_deadline_as_rows_take() -> None:
    clock = Clock()
    limits = Limits(seconds=600.0, clock=clock)
    at_pace(limits, clock, seconds=300, rate=10, in_flight=800)
    assert limits.drain_seconds() == pytest.approx(1.25 * 80, rel=0.02)
    assert limits.reason_to_stop() is None
    clock.now = 1000.0 + 600.0 - 101.0
    assert limits.reason_to_stop() is None
    clock.now = 1000.0 + 600.0 - 99.0
    assert limits.reason_to_stop() == "the deadline is near"
    assert not limits.is_over()
    clock.now = 1600.0
    assert limits.is_over()


def test_without_a_row_the_deadline_itself_stops_the_run() -> None:
    clock = Clock()
    limits = Limits(seconds=60.0, clock=clock)
    limits.observe(issued=500, arrived=0, workers={})
    clock.now += 59.0
    limits.observe(issued=500, arrived=0, workers={})
    assert limits.reason_to_stop() is None
    clock.now += 1.0
    assert limits.reason_to_stop() == "the deadline is over"


def test_gpu_hours_count_what_is_held_and_leave_room_for_the_drain() -> None:
    clock = Clock()
    limits = Limits(gpu_hours=2.0, gpus={"caption": 0.5}, clock=clock)
    at_pace(limits, clock, seconds=3600, rate=4, in_flight=400, workers=3)
    assert limits.gpu_hours_held == pytest.approx(1.5)
    assert limits.reason_to_stop() is None
    at_pace(limits, clock, seconds=1100, rate=4, in_flight=400, workers=3)
    assert limits.gpu_hours_held < 2.0
    assert limits.reason_to_stop() == "2 GPU-hours are used up"
    assert not limits.is_over()


def test_workers_that_are_gone_hold_nothing() -> None:
    clock = Clock()
    limits = Limits(gpu_hours=2.0, gpus={"caption": 1.0}, clock=clock)
    for workers in (1, 0, 0, 0):
        limits.observe(issued=0, arrived=0, workers={"caption": workers})
        clock.now += 1800.0
    assert limits.gpu_hours_held == pytest.approx(0.5)


def test_a_new_pass_forgets_the_pace_but_not_the_hours() -> None:
    clock = Clock()
    limits = Limits(seconds=600.0, gpus={"caption": 1.0}, clock=clock)
    at_pace(limits, clock, seconds=100, rate=10, in_flight=800, workers=1)
    held = limits.gpu_hours_held
    limits.begin_pass()
    assert limits.drain_seconds() == 0.0
    limits.observe(issued=5, arrived=0, workers={"caption": 1})
    assert limits.gpu_hours_held == held > 0
    clock.now += 36.0
    limits.observe(issued=5, arrived=0, workers={"caption": 1})
    assert limits.gpu_hours_held == pytest.approx(held + 0.01)


def test_between_passes_nothing_is_held() -> None:
    clock = Clock()
    limits = Limits(gpu_hours=2.0, gpus={"caption": 1.0}, clock=clock)
    at_pace(limits, clock, seconds=100, rate=10, in_flight=800, workers=8)
    held = limits.gpu_hours_held
    limits.begin_pass()  # the phase is over
    clock.now += 300.0
    limits.begin_pass()  # the next one begins
    limits.observe(issued=0, arrived=0, workers={})
    assert limits.gpu_hours_held == held


def stopped_for_hours(clock: Clock) -> Limits:
    """GPU-hours are nearly used up, rows are on their way and the GPUs are gone."""
    limits = Limits(seconds=36_000.0, gpu_hours=1.0, gpus={"caption": 1.0}, idle_seconds=30.0, clock=clock)
    at_pace(limits, clock, seconds=3590, rate=1, in_flight=16, workers=1)
    assert limits.reason_to_stop() == "1 GPU-hours are used up"
    for _ in range(60):  # as long as a GPU is held, a drain waits for the limit
        assert limits.gpu_hours_held < 1.0
        assert not limits.is_over()
        limits.observe(issued=3598, arrived=3590, workers={"caption": 1})
        clock.now += 0.1
    limits.observe(issued=3598, arrived=3590, workers={})
    return limits


def test_a_drain_for_gpu_hours_that_nobody_uses_up_is_over_all_the_same() -> None:
    clock = Clock()
    limits = stopped_for_hours(clock)
    clock.now += 29.0
    assert not limits.is_over()
    clock.now += 1.1
    assert limits.is_over()
    assert limits.gpu_hours_held < 1.0


def test_a_drain_for_gpu_hours_goes_on_while_rows_come_or_a_gpu_is_held_again() -> None:
    clock = Clock()
    limits = stopped_for_hours(clock)
    for arrived in (3591, 3592, 3593):
        clock.now += 29.0
        limits.observe(issued=3598, arrived=arrived, workers={})
        assert not limits.is_over()
    clock.now += 29.0
    limits.observe(issued=3598, arrived=3593, workers={"caption": 1})
    clock.now += 31.0  # nobody has said that it is gone
    assert not limits.is_over()
    clock.now -= 29.0
    limits.observe(issued=3598, arrived=3593, workers={})
    clock.now += 29.0
    limits.observe(issued=3598, arrived=3593, workers={})
    assert not limits.is_over()
    clock.now += 1.1
    assert limits.is_over()


def test_a_deadline_waits_for_itself_although_no_gpu_is_held() -> None:
    clock = Clock()
    limits = Limits(seconds=600.0, gpu_hours=100.0, gpus={"caption": 1.0}, idle_seconds=30.0, clock=clock)
    at_pace(limits, clock, seconds=500, rate=10, in_flight=800, workers=1)
    assert limits.reason_to_stop() == "the deadline is near"
    limits.gpu_hours_held = 99.99
    limits.observe(issued=5410, arrived=5010, workers={"caption": 1})
    assert limits.reason_to_stop() == "100 GPU-hours are used up"  # but they were not the first reason
    limits.observe(issued=5410, arrived=5010, workers={})
    clock.now += 90.0
    assert not limits.is_over()
    clock.now += 9.0
    assert limits.is_over()


def test_gpu_hours_where_nothing_takes_a_gpu_are_refused() -> None:
    with pytest.raises(UserError, match=r"no stage .* takes a GPU"):
        Limits(gpu_hours=1.0, gpus={"decode": 0.0})


NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("6h", 21_600), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172_800), ("45s", 45)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_deadline(text, NOON) == seconds


def test_moments_and_times_of_day() -> None:
    assert parse_deadline("2026-11-26T13:30+00:00", NOON) == 5400
    assert parse_deadline("2026-11-26T15:30+03:00", NOON) == 1800
    later = NOON.astimezone() + timedelta(hours=2)
    assert parse_deadline(f"{later:%H:%M}", NOON) == 7200
    before = NOON.astimezone() - timedelta(hours=2)
    assert parse_deadline(f"{before:%H:%M}", NOON) == 22 * 3600


@pytest.mark.parametrize("text", ["", "soon", "6", "6 h", "h", "2026-13-01", "25:00", "2020-01-01", "0h", "-6h"])
def test_what_is_no_deadline_or_over_is_told(text: str) -> None:
    with pytest.raises(UserError, match="--deadline"):
        parse_deadline(text, NOON)
