"""The live table and the log's line: what they say, of which time, and that no run ends of them."""

import io
import logging
import re
import sys
from dataclasses import dataclass, field, replace

import pytest
from rich.console import Console

from pipeline.pool_watch import PoolTime, PoolWorkers
from pipeline.progress import Progress, Snapshot, clock
from pipeline.stats import RunStats

START = Snapshot(
    title="annotate", shards_done=0, shards=4, rows=0, expected_rows=41, failed_rows=0, errors={}, stopping=None
)

LOADS = {
    "decode": PoolWorkers(working=2),
    "caption": PoolWorkers(loading=1, waiting=1),
    "describe_audio": PoolWorkers(loading=1),
    "embed": PoolWorkers(waiting=2),
}

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass
class Watched:
    """A run's counters and pools, and the time, all moved by hand."""

    stats: RunStats = field(default_factory=lambda: RunStats(["decode", "caption"]))
    pools: dict[str, PoolTime] = field(default_factory=dict)
    workers: dict[str, PoolWorkers] = field(default_factory=dict)
    now: float = 1000.0

    def works(self, stage: str, *, busy: float, ready: float) -> None:
        """Workers of a stage were ready and busy for so long, in seconds summed over them."""
        self.stats.add_spent({stage: busy})
        self.pools.setdefault(stage, PoolTime()).ready_seconds += ready

    def progress(self, console: Console, line_seconds: float = 0.0) -> Progress:
        return Progress(
            self.stats,
            lambda: self.pools,
            lambda: self.workers,
            console,
            line_seconds=line_seconds,
            clock=lambda: self.now,
        )


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pipeline.progress")


def job_log() -> Console:
    """What a job writes into is no terminal."""
    return Console(file=io.StringIO(), force_terminal=False)


def terminal(file: io.StringIO) -> Console:
    return Console(file=file, force_terminal=True, width=120, color_system=None, _environ={})


def frame(file: io.StringIO) -> list[str]:
    """What was drawn since the last look, without control codes."""
    text = CONTROL.sub("", file.getvalue())
    file.seek(0)
    file.truncate()
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def goes_on_to_the_middle(watched: Watched) -> Snapshot:
    """Ten seconds, in which one of two workers of decode is busy, and caption's only one."""
    watched.now += 10
    watched.works("decode", busy=10.0, ready=20.0)
    watched.works("caption", busy=9.99, ready=10.0)
    watched.stats.stages["decode"].results, watched.stats.stages["decode"].failed = 20, 1
    watched.stats.stages["caption"].results, watched.stats.stages["caption"].failed = 18, 3
    errors = {"timeout": 2, "corrupt": 1}
    return replace(START, shards_done=2, rows=21, errors=errors, stopping="received SIGINT")


def test_a_line_says_how_far_how_fast_how_busy_and_what_failed(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with watched.progress(job_log()) as progress:
        watched.now += 65
        progress.draw(lambda: START)
        watched.workers = LOADS
        progress.draw(lambda: START)
        watched.workers = {"decode": PoolWorkers(working=1), "caption": PoolWorkers(idle=1, loading=2, waiting=3)}
        progress.draw(lambda: START)
        watched.now += 5
        progress.draw(lambda: replace(START, rows=1))
        progress.draw(lambda: goes_on_to_the_middle(watched))
    assert caplog.messages == [
        "annotate 1:05 no row yet; 4 shards to do",
        "annotate 1:05 no row yet, loading caption, describe_audio; starting embed; 4 shards to do",
        "annotate 1:05 no row yet; 4 shards to do",
        "annotate 1:10 shards 0/4 rows 1/~41 0.00 rows/s ETA - errors: none busy: decode=0% caption=0%",
        "annotate 1:20 shards 2/4 rows 21/~41 2.00 rows/s ETA 0:10 errors: corrupt=1 timeout=2 "
        "busy: decode=50% caption=100% stopping: received SIGINT",
    ]


def test_the_table_says_the_same(watched: Watched) -> None:
    file = io.StringIO()
    watched.workers = LOADS
    with watched.progress(terminal(file)) as progress:
        watched.now += 65
        progress.draw(lambda: START)
        assert frame(file)[0] == (
            "annotate  1:05   shards 0/4   rows 0/~41   0.00 rows/s   ETA -   "
            "loading caption, describe_audio; starting embed"
        )
        watched.now += 5
        progress.draw(lambda: replace(START, rows=1))
        frame(file)
        progress.draw(lambda: goes_on_to_the_middle(watched))
        assert frame(file) == [
            "annotate  1:20   shards 2/4   rows 21/~41   2.00 rows/s   ETA 0:10",
            "┏━━━━━━━━━┳━━━━━━┳━━━━━━━━┳━━━━━━┓",
            "┃ stage   ┃ rows ┃ failed ┃ busy ┃",
            "┡━━━━━━━━━╇━━━━━━╇━━━━━━━━╇━━━━━━┩",
            "│ decode  │   21 │      1 │  50% │",
            "│ caption │   21 │      3 │ 100% │",
            "└─────────┴──────┴────────┴──────┘",
            "corrupt 1  timeout 2  stopping: received SIGINT",
        ]


def test_without_errors_and_stop_there_is_no_caption(watched: Watched) -> None:
    file = io.StringIO()
    with watched.progress(terminal(file)) as progress:
        progress.draw(lambda: START)
        assert frame(file)[-1].startswith("└")


def test_a_log_gets_a_line_at_the_interval(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    with watched.progress(job_log(), line_seconds=30.0) as progress:
        for _ in range(65):
            watched.now += 1
            progress.draw(lambda: START)
    assert [message.split()[1] for message in caplog.messages] == ["0:30", "1:00"]


def test_what_came_with_the_first_rows_is_not_the_pace(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    with watched.progress(job_log()) as progress:
        watched.now += 60
        progress.draw(lambda: replace(START, rows=20))
        watched.now += 10
        progress.draw(lambda: replace(START, rows=30))
    assert "rows 30/~41 1.00 rows/s ETA 0:11" in caplog.messages[-1]


def test_a_phase_that_follows_another_starts_from_nothing(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.works("decode", busy=900.0, ready=1000.0)
    with watched.progress(job_log()) as progress:
        watched.now += 5
        watched.works("caption", busy=4.0, ready=5.0)
        progress.draw(lambda: replace(START, title="caption", rows=5))
    assert caplog.messages[-1].startswith("caption 0:05 shards 0/4 rows 5/~41")
    assert caplog.messages[-1].endswith("busy: decode=0% caption=80%")


def test_a_stage_that_works_again_counts_from_its_phase_on(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.works("decode", busy=500.0, ready=1000.0)
    with watched.progress(job_log()) as progress:
        watched.works("decode", busy=6.0, ready=8.0)
        progress.draw(lambda: replace(START, rows=5))
    assert caplog.messages[-1].endswith("busy: decode=75% caption=0%")


def test_a_block_that_comes_back_late_is_no_more_than_all_the_time(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with watched.progress(job_log()) as progress:
        watched.works("decode", busy=60.0, ready=5.0)
        watched.stats.add_spent({"caption": 3.0})  # of no pool that was seen
        progress.draw(lambda: replace(START, rows=5))
    assert caplog.messages[-1].endswith("busy: decode=100% caption=0%")


def test_a_stage_that_was_not_asked_for_is_shown_once_it_works(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with watched.progress(job_log()) as progress:
        watched.works("embed", busy=1.0, ready=4.0)
        progress.draw(lambda: replace(START, rows=5))
    assert caplog.messages[-1].endswith("busy: decode=0% caption=0% embed=25%")


class Broken(io.StringIO):
    """A terminal that goes away."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error
        self.gone = False

    def write(self, text: str) -> int:
        if self.gone:
            raise self._error
        return super().write(text)


@pytest.mark.parametrize("error", [OSError(5, "gone"), SystemExit(1)], ids=["error", "exit"])
@pytest.mark.parametrize("breaks", ["at the start", "while it draws", "at the end"])
def test_a_terminal_that_breaks_ends_no_run_and_is_said_once(
    watched: Watched, caplog: pytest.LogCaptureFixture, error: BaseException, breaks: str
) -> None:
    file, output = Broken(error), sys.stdout
    file.gone = breaks == "at the start"
    with watched.progress(terminal(file)) as progress:
        progress.draw(lambda: START)
        file.gone = breaks != "at the end"
        progress.draw(lambda: START)
        progress.draw(lambda: START)
        file.gone = True
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith(f"no progress display from here: {type(error).__name__}: ")
    assert sys.stdout is output, "what the display had taken is given back"


@pytest.mark.parametrize("good_seconds", [0.0, 1.0], ids=["from the start", "later"])
def test_numbers_that_cannot_be_read_end_no_run_either(
    watched: Watched, caplog: pytest.LogCaptureFixture, good_seconds: float
) -> None:
    until = watched.now + good_seconds

    def times() -> dict[str, PoolTime]:
        if watched.now >= until:
            raise RuntimeError("no pools")
        return {}

    with Progress(watched.stats, times, dict, job_log(), line_seconds=0.0, clock=lambda: watched.now) as progress:
        watched.now += 1
        progress.draw(lambda: replace(START, rows=5))
        progress.draw(lambda: replace(START, rows=6))
    assert caplog.messages == ["no progress display from here: RuntimeError: no pools"]


def test_a_clock_has_hours_only_where_there_are_some() -> None:
    assert [clock(seconds) for seconds in (-1.0, 59.9, 61.0, 3723.0, 90_000.0)] == [
        "0:00", "0:59", "1:01", "1:02:03", "25:00:00",
    ]  # fmt: skip
