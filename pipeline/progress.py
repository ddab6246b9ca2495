"""What a person sees while a run goes: a live table on a terminal, one plain line at an interval in a job's log."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.stats import RunStats

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Where a phase stands."""

    title: str
    shards_done: int
    shards: int
    rows: int
    expected_rows: int
    """Items the phase is to run, estimated from the catalog's mean shard size."""
    failed_rows: int
    errors: Mapping[str, int]
    stopping: str | None


class Progress:
    """Draws snapshots. A context manager: the live display ends with it.

    Args:
        stats: The run's counters.
        workers: Stage to its number of workers, for the share of time they were busy.
        console: Where to draw; a live table if it is a terminal.
        line_seconds: Seconds between two lines of a log.
    """

    def __init__(
        self, stats: RunStats, workers: Mapping[str, int], console: Console, *, line_seconds: float = 30.0
    ) -> None:
        self._stats = stats
        self._workers = workers
        self._console = console
        self._line_seconds = line_seconds
        self._started = time.monotonic()
        self._first_row_seconds: float | None = None
        self._last_line = self._started
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def draw(self, now: Snapshot) -> None:
        """Redraws the table, or writes a line when it is time for one."""
        seconds = time.monotonic() - self._started
        if now.rows and self._first_row_seconds is None:
            self._first_row_seconds = seconds
        if self._live is not None:
            self._live.update(self._display(now, seconds), refresh=True)
        elif time.monotonic() - self._last_line >= self._line_seconds:
            self._last_line = time.monotonic()
            logger.info("%s", self._line(now, seconds))

    def _rate(self, now: Snapshot, seconds: float) -> float:
        """Rows a second since the first row: loading models is not the pace."""
        if self._first_row_seconds is None or seconds <= self._first_row_seconds:
            return 0.0
        return now.rows / (seconds - self._first_row_seconds)

    def _eta(self, now: Snapshot, seconds: float) -> str:
        rate = self._rate(now, seconds)
        return clock((now.expected_rows - now.rows) / rate) if rate and now.rows < now.expected_rows else "-"

    def _busy(self, stage: str, seconds: float) -> float:
        return min(self._stats.stages[stage].busy_seconds / (self._workers.get(stage, 1) * max(seconds, 1e-9)), 1.0)

    def _line(self, now: Snapshot, seconds: float) -> str:
        if not now.rows:
            return f"{now.title} {clock(seconds)} no row yet, workers are starting; {now.shards} shards to do"
        busy = " ".join(f"{stage}={self._busy(stage, seconds):.0%}" for stage in self._stats.stages)
        errors = " ".join(f"{kind}={count}" for kind, count in sorted(now.errors.items())) or "none"
        return (
            f"{now.title} {clock(seconds)} shards {now.shards_done}/{now.shards} rows {now.rows}/~{now.expected_rows} "
            f"{self._rate(now, seconds):.2f} rows/s ETA {self._eta(now, seconds)} errors: {errors} busy: {busy}"
            + (f" stopping: {now.stopping}" if now.stopping else "")
        )

    def _display(self, now: Snapshot, seconds: float) -> Group:
        waiting = "" if now.rows or seconds < 5 else "   workers are starting"
        title = Text(
            f"{now.title}  {clock(seconds)}   shards {now.shards_done}/{now.shards}   "
            f"rows {now.rows}/~{now.expected_rows}   {self._rate(now, seconds):.2f} rows/s   "
            f"ETA {self._eta(now, seconds)}{waiting}"
        )
        table = Table(expand=False)
        for column in ("stage", "rows", "failed", "busy"):
            table.add_column(column, justify="left" if column == "stage" else "right")
        for stage, stats in self._stats.stages.items():
            failed = Text(str(stats.failed), style="red" if stats.failed else "")
            table.add_row(stage, str(stats.rows), failed, f"{self._busy(stage, seconds):.0%}")
        parts: list[RenderableType] = [title, table]
        captions = [f"{kind} {count}" for kind, count in sorted(now.errors.items())]
        if captions or now.stopping:
            parts.append(Text("  ".join(captions) + (f"  stopping: {now.stopping}" if now.stopping else "")))
        return Group(*parts)


def clock(seconds: float) -> str:
    """Seconds as `1:02:03` or `2:03`."""
    hours, rest = divmod(int(max(seconds, 0)), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
