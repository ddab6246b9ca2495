"""A real run in which one stage is slow: what the ledger and the metrics say of the stages before and after it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from actors.decode import Decoded
from pipeline.report import RunReport
from pipeline.run_metrics import WORKERS
from records.errors import Failure
from tests.pipeline.light_stages import POOL, LightCaption, LightDecode, light_catalog, light_specs
from tests.pipeline.runs import run_light
from tests.pipeline.scraping import Scrape, until

pytestmark = pytest.mark.engine

FRAMES = (2, 1024, 1024, 3)
"""6 MiB a row: blocks as large as those of real clips, so that few of them fill the object store."""
ROWS, ROW_SECONDS = 96, 0.15
POOLS = {"decode": 1, "caption": 2, "transcribe": 1, "embed": 1}
QUEUES = "ray_data_num_external_inqueue_blocks"


class LargeFrames(LightDecode):
    """Decodes to frames that count."""

    def _one(self, video_id: str, video: bool, audio: bool) -> Decoded | Failure:
        decoded = super()._one(video_id, video, audio)
        assert isinstance(decoded, Decoded)
        if decoded.frames is None:
            return decoded
        return replace(decoded, frames=replace(decoded.frames, pixels=np.zeros(FRAMES, dtype=np.uint8)))


@dataclass(frozen=True, slots=True)
class Watched:
    """A run, what was scraped while it ran, and when all of it was over."""

    report: RunReport
    during: Sequence[Scrape]
    after: Scrape

    def workers(self, scrape: Scrape, stage: str, *states: str) -> float:
        name, run_id = WORKERS.exported_name, self.report.run_id
        return sum(scrape.total(name, run_id=run_id, stage=stage, state=state) for state in states)


def queue(scrape: Scrape, stage: str) -> float:
    return sum(value for name, of, value in scrape.samples if name == QUEUES and f"({stage})" in of["operator"])


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, light_ray: None) -> Watched:
    """Two captioners that take their time, between a decoder and a transcriber that take next to nothing."""
    folder = tmp_path_factory.mktemp("slow")
    light_catalog(str(folder / "out"), [f"v{number:02d}" for number in range(ROWS)], shard_size=16)
    specs = dict(light_specs(folder / "reads"))
    specs["decode"] = replace(specs["decode"], build=partial(LargeFrames, folder / "reads"))
    pool = replace(POOL, min_actors=2, max_actors=2)
    specs["caption"] = replace(specs["caption"], pool=pool, build=partial(LightCaption, seconds=ROW_SECONDS))
    during: list[Scrape] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            during.append(Scrape.now())

    watcher = threading.Thread(target=watch)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StreamingExecutor, "UPDATE_METRICS_INTERVAL_S", 0.5)
        watcher.start()
        try:
            report = run_light(folder / "out", specs)
        finally:
            over.set()
            watcher.join()

    def is_over(scrape: Scrape) -> bool:
        return not scrape.total(WORKERS.exported_name, run_id=report.run_id) and not scrape.total(QUEUES)

    return Watched(report, during, until(Scrape.now, is_over))


def test_the_slow_stage_is_busy_the_one_before_it_blocked_and_those_after_it_starved(slow: Watched) -> None:
    lines = slow.report.ledger
    assert {stage: line.workers for stage, line in lines.items()} == POOLS
    for stage, line in lines.items():
        shares = (
            line.busy_share, line.starved_share, line.blocked_share, line.gate_share, line.loading_share,
            line.other_share,
        )  # fmt: skip
        assert sum(shares) == pytest.approx(1.0), stage
        assert line.held_seconds <= slow.report.seconds * line.workers, stage
    caption, decode, transcribe = lines["caption"], lines["decode"], lines["transcribe"]
    assert ROW_SECONDS <= caption.busy_seconds_per_item < 2 * ROW_SECONDS
    assert caption.busy_share * caption.held_seconds == pytest.approx(ROWS * caption.busy_seconds_per_item, rel=0.1)
    assert caption.busy_share > 3 * max(line.busy_share for stage, line in lines.items() if stage != "caption")
    assert caption.blocked_share < 0.1
    assert decode.blocked_share > 0.2 > 0.1 > decode.busy_share
    for line in (transcribe, lines["embed"]):
        assert line.starved_share > 0.2 > 0.1 > max(line.blocked_share, line.busy_share)


def test_the_pools_of_the_metrics_are_those_of_the_run(slow: Watched) -> None:
    for stage, size in POOLS.items():
        states = ("waiting", "loading", "idle", "working")
        seen = [{state: slow.workers(scrape, stage, state) for state in states} for scrape in slow.during]
        assert max(sum(one.values()) for one in seen) == size, stage
        assert max(one["idle"] + one["working"] for one in seen) == size, stage
        assert seen[0]["working"] == 0
    assert all(slow.workers(slow.after, stage, "idle", "working", "waiting", "loading") == 0 for stage in POOLS)
    assert max(slow.workers(scrape, "caption", "working") for scrape in slow.during) == 2


def test_blocks_queue_up_to_the_slow_stage_not_behind_it_and_nowhere_in_the_end(slow: Watched) -> None:
    """Where few blocks fill the object store they wait in front of the stage that is held back for the slow one."""
    before, behind = ("decode", "caption"), ("transcribe", "embed")
    waiting = [sum(queue(scrape, stage) for stage in before) for scrape in slow.during]
    assert waiting[0] == 0
    assert max(waiting) >= 6, "a quarter of all blocks"
    assert 2 * max(queue(scrape, stage) for scrape in slow.during for stage in behind) <= max(waiting)
    assert {stage: queue(slow.after, stage) for stage in POOLS} == dict.fromkeys(POOLS, 0)
