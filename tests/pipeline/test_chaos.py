"""Kill -9 of drivers and workers: whatever dies, the tables end as those of an undisturbed run."""

import contextlib
import json
import logging
import os
import random
import signal
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pytest

from tests.again import RecordProperty
from tests.clips import make_clip
from tests.pipeline.chaos import SECONDS_A_ROW, Series, moments, narrow_gate, undisturbed_output
from tests.pipeline.drivers import Driver, Environment, journal_files, light_job, run_light_job
from tests.pipeline.light_stages import light_specs
from tests.pipeline.run_processes import GATE, READER, SANDBOX, run_processes
from tests.pipeline.runs import committed, same_tables
from tests.pipeline.wrapped_stages import noted_lines, worker_pids

logger = logging.getLogger(__name__)

SEED: int | None = None
"""Of the ten moments; None for another one each time. The log names it: put it here to see the same again."""

ITEMS = 72
"""Of the short series: enough for its last run to have work left, however late the two kills come."""

CLIPS = 240
"""The last process is killed once half of them are described."""


def kill_worker(driver: Driver, notes: Path, stage: str, rows: int) -> None:
    """SIGKILL to the newest worker of a stage, once that stage has done so many rows."""
    assert driver.reaches(lambda: len(noted_lines(notes / f"{stage}.done")) >= rows), driver.said()[-2000:]

    def alive() -> list[int]:
        return [pid for pid in worker_pids(notes, stage) if psutil.pid_exists(pid)]

    # The one that was killed before may not have a successor yet.
    assert driver.reaches(lambda: bool(alive())), driver.said()[-2000:]
    pid = alive()[-1]
    os.kill(pid, signal.SIGKILL)
    logger.info("killed %s, process %d, after %d rows", stage, pid, rows)


@pytest.fixture(scope="module")
def small_undisturbed(tmp_path_factory: pytest.TempPathFactory, drivers_ray: Environment) -> Path:
    return undisturbed_output(tmp_path_factory.mktemp("undisturbed"), ITEMS, 8, drivers_ray)


@pytest.mark.chaos
def test_two_killed_drivers_and_a_killed_worker_leave_no_trace_in_the_tables(
    tmp_path: Path, record_property: RecordProperty, drivers_ray: Environment, small_undisturbed: Path
) -> None:
    series = Series(
        tmp_path, items=ITEMS, shard_size=8, environment=drivers_ray, seed=7, record_property=record_property
    )
    series.kill_at("journalling")
    series.kill_at("committing")
    series.finish(lambda driver, notes: kill_worker(driver, notes, "caption", rows=4))
    assert series.journalled > 0
    series.check(small_undisturbed)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_ten_drivers_killed_at_random_moments(
    tmp_path: Path, record_property: RecordProperty, drivers_ray: Environment
) -> None:
    seed = SEED if SEED is not None else time.time_ns() % 10_000
    logger.warning("seed %d", seed)
    undisturbed = undisturbed_output(tmp_path / "undisturbed", 128, 16, drivers_ray)
    series = Series(
        tmp_path / "killed",
        items=128,
        shard_size=16,
        environment=drivers_ray,
        seed=seed,
        record_property=record_property,
    )
    for moment in moments(seed, each=2):
        series.kill_at(moment)
    series.finish()
    assert series.runs == 11
    assert series.journalled > 0
    series.check(undisturbed)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_workers_of_every_stage_killed_in_one_run(
    tmp_path: Path, record_property: RecordProperty, drivers_ray: Environment
) -> None:
    undisturbed = undisturbed_output(tmp_path / "undisturbed", 96, 8, drivers_ray)
    series = Series(
        tmp_path / "killed", items=96, shard_size=8, environment=drivers_ray, seed=1, record_property=record_property
    )
    choose = random.Random(series.seed)

    def kill_often(driver: Driver, notes: Path) -> None:
        for rows in (8, 32, 56):
            kill_worker(driver, notes, "decode", rows + choose.randint(0, 8))
            for stage in choose.sample(["caption", "transcribe", "embed"], k=3):
                kill_worker(driver, notes, stage, rows=0)

    series.finish(kill_often)
    series.check(undisturbed)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_every_process_of_a_run_killed_once(tmp_path: Path, drivers_ray: Environment) -> None:
    seed = SEED if SEED is not None else time.time_ns() % 10_000
    logger.warning("seed %d", seed)
    choose = random.Random(seed)
    make_clip(tmp_path / "clip.mp4", seconds=0.5)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(CLIPS):
        (source / f"clip-{number:03d}.mp4").hardlink_to(tmp_path / "clip.mp4")
    options = {"source": source, "shard_size": 8, "settings": tmp_path / "settings.json"}
    (tmp_path / "settings.json").write_text(json.dumps(narrow_gate(24)))
    run_light_job(tmp_path / "undisturbed", tmp_path / "peace", drivers_ray, **options)

    notes, killed = tmp_path / "notes", list[str]()
    after: defaultdict[str, int] = defaultdict(lambda: choose.randint(0, CLIPS // 2))
    driver = light_job(tmp_path / "out", notes, drivers_ray, seconds=SECONDS_A_ROW, **options)
    while driver.process.poll() is None:
        rows = len(noted_lines(notes / "caption.done"))
        for role, process in run_processes():
            if role not in killed and (role.endswith("starts") or rows >= after[role]):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    killed.append(role)
                    logger.info("killed %s, process %d, after %d rows", role, process.pid, rows)
        time.sleep(0.05)
    assert driver.wait() == 0, driver.said()[-2000:]
    specs = light_specs(Path())
    assert {GATE, READER, SANDBOX, *specs, *(f"{stage} starts" for stage in specs)} <= set(killed)
    tables = committed(tmp_path / "out", specs)
    same_tables(tables, committed(tmp_path / "undisturbed", specs))
    assert {stage: len(lines) for stage, lines in tables.items()} == dict.fromkeys(specs, CLIPS)
    assert journal_files(tmp_path / "out") == []
