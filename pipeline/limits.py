"""When a run stops by plan: a deadline, or GPU-hours. It stops reading early enough for what is on its way to arrive.

What is on its way takes as long as so many rows took lately (Little's law), and a quarter more; what has not arrived at
the limit itself is left to the next run. GPU-hours that nobody uses up any more end no drain: so theirs is over as well
once no GPU is held and nothing arrives.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from datetime import time as datetime_time
from typing import Literal

from records.errors import UserError

WINDOW_SECONDS = 120.0
"""How far back the pace is measured."""

SLACK = 1.25
"""The last rows take longer than the mean."""

_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+", re.ASCII)


def parse_deadline(text: str, now: datetime | None = None) -> float:
    """Seconds from now until a deadline.

    Args:
        text: A duration (`90m`, `6h`, `1h30m`), a moment in ISO 8601 (`2026-11-27T06:00`), or a time of day (`06:00`),
            the next one there is; both local where they name no zone.
        now: The time that counts as now.

    Raises:
        UserError: It is neither, or lies in the past.
    """
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([dhms])", text))
    else:
        try:
            moment = _moment(text, now or datetime.now(UTC))
        except ValueError:
            example = "a duration such as 90m or 6h, or a time such as 06:00 or 2026-11-27T06:00"
            raise UserError(f"--deadline {text}: expected {example}") from None
        seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    if seconds <= 0:
        raise UserError(f"--deadline {text}: that is over already")
    return seconds


def _moment(text: str, now: datetime) -> datetime:
    """A moment in ISO 8601; a time of day alone is the next one there is."""
    if "-" in text:
        return datetime.fromisoformat(text).astimezone()
    today = datetime.combine(now.astimezone().date(), datetime_time.fromisoformat(text)).astimezone()
    return today if today > now else today + timedelta(days=1)


@dataclass(slots=True, kw_only=True)
class Limits:
    """The plan to stop, over all phases of a run. Told about every second how things stand."""

    seconds: float | None = None
    """Run time until the deadline; None for none."""
    gpu_hours: float | None = None
    """Most GPU-hours that the pools may hold; None for no limit."""
    idle_seconds: float = 30.0
    """A stop for GPU-hours waits so long for rows while no worker holds a GPU; each row that comes begins it anew."""
    gpus: Mapping[str, float] = field(default_factory=dict)
    """Stage to the GPUs that one worker of it holds."""
    clock: Callable[[], float] = time.monotonic
    started: float | None = None
    """The clock when `seconds` began to run; now where it is not said."""
    gpu_hours_held: float = 0.0
    """GPUs held, times hours, whether they were busy or not: from a worker's start to its end."""
    _seen: float | None = None
    _gpus_held: float = 0.0
    _moved: float | None = None
    """The clock when last a GPU was held or a row came; None before that."""
    _arrived: int = 0
    _stops_for: Literal["deadline", "hours"] | None = None
    """The first reason to stop."""
    _in_flight: int = 0
    _arrivals: deque[tuple[float, int]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.gpu_hours is not None and not any(self.gpus.values()):
            raise UserError("--max-gpu-hours: no stage that this run could start takes a GPU")
        if self.started is None:
            self.started = self.clock()

    def begin_pass(self) -> None:
        """Rows are counted from nought again; model loading before the first is not the pace. The pools of the pass
        before are gone, so that nothing is held until workers are heard of."""
        with self._lock:
            self._arrivals.clear()
            self._in_flight = 0
            self._seen, self._gpus_held = None, 0.0

    def observe(self, *, issued: int, arrived: int, workers: Mapping[str, int]) -> None:
        """Takes the rows let in and the rows back so far in this pass, and the workers that hold GPUs now."""
        now = self.clock()
        with self._lock:
            if self._seen is not None:
                self.gpu_hours_held += self._gpus_held * (now - self._seen) / 3600
            held_until_now, self._seen = self._gpus_held > 0, now
            self._gpus_held = sum(self.gpus.get(stage, 0.0) * count for stage, count in workers.items())
            if held_until_now or self._gpus_held > 0 or arrived > self._arrived:
                self._moved = now
            self._arrived = arrived
            self._in_flight = max(issued - arrived, 0)
            self._arrivals.append((now, arrived))
            while now - self._arrivals[0][0] > WINDOW_SECONDS:
                self._arrivals.popleft()

    @property
    def rows_out(self) -> int:
        """Rows that were let into the graph in this pass and are not back."""
        with self._lock:
            return self._in_flight

    def drain_seconds(self) -> float:
        """How long what is on its way will take to arrive; 0 while there is no pace to judge by."""
        with self._lock:
            if len(self._arrivals) < 2:
                return 0.0
            (first_time, first), (last_time, last) = self._arrivals[0], self._arrivals[-1]
        return SLACK * self._in_flight * (last_time - first_time) / (last - first) if last > first else 0.0

    def reason_to_stop(self) -> str | None:
        """Why no further shard should be read, or None."""
        drain = self.drain_seconds()
        if self.seconds is not None and self._left_seconds() <= drain:
            self._stops_for = self._stops_for or "deadline"
            return "the deadline is near" if self._left_seconds() > 0 else "the deadline is over"
        if self.gpu_hours is not None and self._gpu_hours_after(drain) >= self.gpu_hours:
            self._stops_for = self._stops_for or "hours"
            return f"{self.gpu_hours:g} GPU-hours are used up"
        return None

    def is_over(self) -> bool:
        """Whether a limit is passed, or will never be: what has not arrived by now is left to the next run."""
        over = self.seconds is not None and self._left_seconds() <= 0
        hours_are_over = self.gpu_hours is not None and self.gpu_hours_held >= self.gpu_hours
        return over or hours_are_over or (self._stops_for == "hours" and self._idle_seconds() >= self.idle_seconds)

    def _idle_seconds(self) -> float:
        """For how long no GPU has been held and no row has come."""
        with self._lock:
            return self.clock() - self._moved if self._moved is not None and not self._gpus_held else 0.0

    def _left_seconds(self) -> float:
        assert self.seconds is not None
        assert self.started is not None
        return self.started + self.seconds - self.clock()

    def _gpu_hours_after(self, seconds: float) -> float:
        return self.gpu_hours_held + self._gpus_held * seconds / 3600
