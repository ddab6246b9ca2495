"""What a person sees while a run goes: a live table on a terminal, one plain line at an interval in a job's log."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.pool_watch import PoolTime, PoolWorkers
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
    """Items the phase is to run, as `stats.RowForecast` estimates them."""
    failed_rows: int
    errors: Mapping[str, int]
    stopping: str | None


class Progress:
    """Draws snapshots of one phase. A context manager: the live display ends with it.

    No run ends of it: what fails here is said once in the log, and nothing more is drawn.

    Args:
        stats: The run's counters; what they held before is none of this phase.
        times: Stage to the time of its pool so far, over the whole run.
        workers: Stage to what its workers do now.
        console: Where to draw; a live table if it is a terminal.
        line_seconds: Seconds between two lines of a log.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        stats: RunStats,
        times: Callable[[], Mapping[str, PoolTime]],
        workers: Callable[[], Mapping[str, PoolWorkers]],
        console: Console,
        *,
        line_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stats = stats
        self._times = times
        self._workers = workers
        self._line_seconds = line_seconds
        self._clock = clock
        self._started = self._last_line = clock()
        self._busy_before = {stage: one.busy_seconds for stage, one in stats.stages.items()}
        self._ready_before: Mapping[str, float] = {}
        self._first: tuple[float, int] | None = None
        """Seconds and rows when rows were seen first."""
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._broken = False

    def __enter__(self) -> "Progress":
        self._try(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None and not self._broken:
            self._try(self._live.stop)

    def _begin(self) -> None:
        self._ready_before = self._ready_seconds()
        if self._live is not None:
            self._live.start()

    def draw(self, look: Callable[[], Snapshot]) -> None:
        """Redraws the table, or writes a line when it is time for one.

        Args:
            look: Gives where the phase stands now; what fails in it ends the display as well, and no run.
        """
        if not self._broken:
            self._try(lambda: self._draw(look()))

    def _try(self, what: Callable[[], None]) -> None:
        """Does it; after an error the terminal is left as it was, as far as it can be, and there is no display."""
        try:
            what()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - rich leaves by SystemExit where its pipe is closed
            self._broken = True
            if self._live is not None:
                with contextlib.suppress(Exception, SystemExit):
                    self._live.stop()
            logger.warning("no progress display from here: %s: %s", type(error).__name__, error)

    def _draw(self, now: Snapshot) -> None:
        seconds = self._clock() - self._started
        if now.rows and self._first is None:
            self._first = seconds, now.rows
        if self._live is not None:
            self._live.update(self._display(now, seconds), refresh=True)
        elif self._clock() - self._last_line >= self._line_seconds:
            self._last_line = self._clock()
            logger.info("%s", self._line(now, seconds))

    def _rate(self, now: Snapshot, seconds: float) -> float:
        """Rows a second since the first ones: loading models is not the pace, nor are rows that came with its end."""
        if self._first is None or seconds <= self._first[0]:
            return 0.0
        return (now.rows - self._first[1]) / (seconds - self._first[0])

    def _eta(self, now: Snapshot, seconds: float) -> str:
        rate = self._rate(now, seconds)
        return clock((now.expected_rows - now.rows) / rate) if rate and now.rows < now.expected_rows else "-"

    def _ready_seconds(self) -> dict[str, float]:
        return {stage: pool.ready_seconds for stage, pool in self._times().items()}

    def _busy(self) -> dict[str, float]:
        """Stage to the share, of the time that its workers were ready in this phase, in which they were busy.

        0 where none was ready. Work is heard of once its block is back, which may be after its workers have gone: so
        a share lags behind, and is at most 1.
        """
        ready, shares = self._ready_seconds(), {}
        for stage, stats in dict(self._stats.stages).items():  # the driver's thread may add one
            there = ready.get(stage, 0.0) - self._ready_before.get(stage, 0.0)
            busy = stats.busy_seconds - self._busy_before.get(stage, 0.0)
            shares[stage] = min(busy / there, 1.0) if there > 0 else 0.0
        return shares

    def _starting(self, before: str) -> str:
        """Which stages have no worker yet that is ready, after `before`; empty once each has one."""
        workers = self._workers().items()
        missing = {stage: one for stage, one in workers if (one.waiting or one.loading) and not one.idle + one.working}
        loading = [stage for stage, one in missing.items() if one.loading]
        starting = [stage for stage in missing if stage not in loading]
        told = {"loading": loading, "starting": starting}
        text = "; ".join(f"{what} {', '.join(stages)}" for what, stages in told.items() if stages)
        return f"{before}{text}" if text else ""

    def _line(self, now: Snapshot, seconds: float) -> str:
        if not now.rows:
            return f"{now.title} {clock(seconds)} no row yet{self._starting(', ')}; {now.shards} shards to do"
        busy = " ".join(f"{stage}={share:.0%}" for stage, share in self._busy().items())
        errors = " ".join(f"{kind}={count}" for kind, count in sorted(now.errors.items())) or "none"
        return (
            f"{now.title} {clock(seconds)} shards {now.shards_done}/{now.shards} rows {now.rows}/~{now.expected_rows} "
            f"{self._rate(now, seconds):.2f} rows/s ETA {self._eta(now, seconds)} errors: {errors} busy: {busy}"
            + (f" stopping: {now.stopping}" if now.stopping else "")
        )

    def _display(self, now: Snapshot, seconds: float) -> Group:
        waiting = "" if now.rows or seconds < 5 else self._starting("   ")
        title = Text(
            f"{now.title}  {clock(seconds)}   shards {now.shards_done}/{now.shards}   "
            f"rows {now.rows}/~{now.expected_rows}   {self._rate(now, seconds):.2f} rows/s   "
            f"ETA {self._eta(now, seconds)}{waiting}"
        )
        table = Table(expand=False)
        for column in ("stage", "rows", "failed", "busy"):
            table.add_column(column, justify="left" if column == "stage" else "right")
        for stage, share in self._busy().items():
            stats = self._stats.stages[stage]
            failed = Text(str(stats.failed), style="red" if stats.failed else "")
            table.add_row(stage, str(stats.rows), failed, f"{share:.0%}")
        parts: list[RenderableType] = [title, table]
        captions = [f"{kind} {count}" for kind, count in sorted(now.errors.items())]
        if captions or now.stopping:
            parts.append(Text("  ".join(captions) + (f"  stopping: {now.stopping}" if now.stopping else "")))
        return Group(*parts)


def clock(seconds: float) -> str:
    """Seconds as `1:02:03` or `2:03`."""
    hours, rest = divmod(int(max(seconds, 0)), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
