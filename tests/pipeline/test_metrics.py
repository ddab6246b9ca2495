"""Metrics: counters get their growth, nothing that fails there fails a run, and readings are the driver's counters."""

import io
import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.limits import Limits
from pipeline.metrics import BYTES_READ, CountedFetch, Instrument, Metric, Publisher, RayInstrument
from pipeline.pool_watch import PoolWatch, PoolWorkers
from pipeline.progress import Progress, Snapshot
from pipeline.run_metrics import (
    COMMIT_LAG,
    DRIVER_METRICS,
    ERRORS,
    ITEMS,
    ROWS,
    ROWS_OUT,
    ROWS_UNSAVED,
    STREAM_ERRORS,
    TOKENS,
    WORKERS,
    CommitLag,
    PhaseMetrics,
    driver_readings,
)  # fmt: skip
from pipeline.stats import RunStats, StageStats
from records.errors import BadItemError, FailureKind
from records.flow import FlowRow
from records.items import CatalogItem
from storage.fetched import FetchedMedia
from tests.pipeline.light import MemoryJournal, MemoryTables, item, plan_for
from tests.pipeline.test_committer import committer_for

COUNTER = Metric(name="things", help="Things", tags=("run_id", "stage"), counter=True)
GAUGE = Metric(name="level", help="Level", tags=("run_id",))
NOW = Snapshot(
    title="annotate", shards_done=1, shards=4, rows=8, expected_rows=32, failed_rows=3, errors={}, stopping=None
)


@dataclass
class Recorder:
    """Keeps what it is given, and refuses what Ray refuses."""

    metric: Metric
    puts: list[tuple[float, dict[str, str]]] = field(default_factory=list)

    def put(self, value: float, tags: Mapping[str, str]) -> None:
        assert set(tags) == set(self.metric.tags)
        if self.metric.counter and value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        self.puts.append((value, dict(tags)))


class Recorders:
    """One recorder for each metric that is asked for."""

    def __init__(self) -> None:
        self.of: dict[Metric, Recorder] = {}

    def __call__(self, metric: Metric) -> Instrument:
        assert metric not in self.of
        return self.of.setdefault(metric, Recorder(metric))


@given(st.lists(st.dictionaries(st.sampled_from(["caption", "embed"]), st.integers(0, 5)), max_size=8))
def test_a_counter_gets_its_growth_and_a_gauge_its_value(steps: Sequence[Mapping[str, int]]) -> None:
    recorders = Recorders()
    publisher = Publisher(("run-1",), recorders)
    sums: Counter[str] = Counter()
    for step in steps:
        sums.update(step)
        publisher.publish([(COUNTER, (stage,), count) for stage, count in sums.items()] + [(GAUGE, (), sums.total())])
    got: Counter[str] = Counter()
    for value, tags in recorders.of[COUNTER].puts if COUNTER in recorders.of else []:
        assert tags["run_id"] == "run-1"
        got[tags["stage"]] += int(value)
    assert got == +sums
    levels = [value for value, _ in recorders.of[GAUGE].puts] if steps else []
    assert len(levels) == len(steps)
    assert levels[-1:] == ([sums.total()] if steps else [])


def test_what_fails_is_said_once_and_no_more_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[str] = []

    class Broken:
        def put(self, value: float, tags: Mapping[str, str]) -> None:
            tries.append("put")
            raise OSError("no agent")

    publisher = Publisher((), lambda metric: Broken())
    with caplog.at_level(logging.WARNING):
        for value in range(3):
            publisher.publish([(BYTES_READ, (), value + 1)])
    assert tries == ["put"]
    assert [record.getMessage() for record in caplog.records] == ["no more metrics from here: OSError: no agent"]


def test_what_cannot_even_be_declared_ends_no_run(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(metric: Metric) -> Instrument:
        raise ValueError("a bad name")

    Publisher((), refuse).publish([(BYTES_READ, (), 1)])
    assert "a bad name" in caplog.text


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_phase_is_looked_at_once_a_tick_and_where_that_fails_no_run_ends(caplog: pytest.LogCaptureFixture) -> None:
    looks: list[int] = []
    recorders, stats = Recorders(), RunStats(["decode"])
    committer = committer_for(plan_for(MemoryTables(), 1), MemoryTables(), MemoryJournal())
    publisher = Publisher(("run-1",), recorders)
    phase = PhaseMetrics(publisher=publisher, stats=stats, pools=PoolWatch(), limits=Limits(), bill=None)

    def look() -> Snapshot:
        looks.append(len(looks))
        if len(looks) > 2:
            raise RuntimeError("set changed size during iteration")
        return NOW

    with Progress(stats, dict, dict, Console(file=io.StringIO()), line_seconds=0.0) as progress:
        for _ in range(2):
            phase.tick(look, committer, progress.draw)
        assert [value for value, _ in recorders.of[ROWS].puts] == [8, 8]
        assert (len(looks), warnings_of(caplog)) == (2, [])
        for _ in range(3):
            phase.tick(look, committer, progress.draw)
    assert warnings_of(caplog) == [
        "no progress display from here: RuntimeError: set changed size during iteration",
        "no more metrics from here: RuntimeError: set changed size during iteration",
    ]
    assert len(looks) == 4, "by each once more, and then by nobody"


@pytest.mark.parametrize("metric", [*DRIVER_METRICS, BYTES_READ], ids=lambda metric: metric.name)
def test_ray_takes_every_metric_whether_it_runs_or_not(metric: Metric) -> None:
    RayInstrument(metric).put(1.5, dict.fromkeys(metric.tags, "x"))


def test_the_readings_are_the_counters() -> None:
    caption = StageStats(results=5, failed=3, busy_seconds=2.5, prompt_tokens=70, output_tokens=30)
    caption.errors.update({"corrupt": 2, "timeout": 1})
    caption.stream_errors.update({"corrupt": 4})
    limits = Limits()
    limits.observe(issued=20, arrived=8, workers={})
    readings = {
        (metric, tags): value
        for metric, tags, value in driver_readings(
            NOW,
            {"caption": caption},
            {"caption": PoolWorkers(waiting=1, loading=2, idle=3, working=4)},
            limits,
            rows_unsaved=6,
            commit_lag_seconds=12.5,
        )
    }
    assert {metric for metric, _ in readings} == set(DRIVER_METRICS)
    assert readings[ITEMS, ("caption",)] == 5
    assert readings[ERRORS, ("caption", "corrupt")] == 2
    assert readings[ERRORS, ("caption", "timeout")] == 1
    assert readings[STREAM_ERRORS, ("caption", "corrupt")] == 4
    assert {tags[1]: value for (metric, tags), value in readings.items() if metric == WORKERS} == {
        "waiting": 1, "loading": 2, "idle": 3, "working": 4
    }  # fmt: skip
    assert readings[TOKENS, ("caption", "prompt")] == 70
    assert readings[TOKENS, ("caption", "output")] == 30
    assert (readings[ROWS_OUT, ()], readings[ROWS_UNSAVED, ()], readings[COMMIT_LAG, ()]) == (12, 6, 12.5)


def line(shard_id: str) -> FlowRow:
    return FlowRow(shard_id=shard_id, position=0, issued_rows=1, item=item("a"))


def test_the_commit_lag_is_the_age_of_the_oldest_shard_under_way() -> None:
    now = 100.0
    lag = CommitLag(clock=lambda: now)
    committed: set[str] = set()
    assert lag.seconds(committed) == 0.0
    lag.arrived(line("1"))
    now = 103.0
    lag.arrived(line("2"))
    lag.arrived(line("1"))
    now = 110.0
    assert lag.seconds(committed) == 10.0
    committed.add("2")
    assert lag.seconds(committed) == 10.0
    committed = {"1"}
    assert lag.seconds(committed) == 7.0
    assert lag.seconds({"1", "2"}) == 0.0


@dataclass
class Occupied(Recorder):
    """Notices whether anybody comes in while somebody is; the first stays a while, so that others may."""

    inside: threading.Lock = field(default_factory=threading.Lock)
    met: threading.Event = field(default_factory=threading.Event)

    def put(self, value: float, tags: Mapping[str, str]) -> None:
        if not self.inside.acquire(blocking=False):
            self.met.set()
            return
        if not self.puts:
            self.met.wait(0.3)
        super().put(value, tags)
        self.inside.release()


def test_bytes_are_counted_from_many_threads_and_not_for_what_failed() -> None:
    def fetch(one: CatalogItem) -> FetchedMedia:
        if one.video_id.startswith("gone"):
            raise BadItemError(FailureKind.NOT_FOUND, "no such object")
        return FetchedMedia.of_bytes(b"x" * int(one.video_id))

    occupied = Occupied(BYTES_READ)
    counted = CountedFetch(fetch, Publisher((), lambda metric: occupied))
    sizes = [number % 7 for number in range(200)]  # an empty item is no growth
    with ThreadPoolExecutor(8) as pool:
        for media, size in zip(pool.map(lambda size: counted(item(str(size))), sizes), sizes, strict=True):
            assert media.read_bytes() == b"x" * size
            media.close()
    with pytest.raises(BadItemError):
        counted(item("gone"))
    assert not occupied.met.is_set()
    assert sum(value for value, _ in occupied.puts) == sum(sizes)
