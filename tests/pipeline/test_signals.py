"""Signals to a driver: rows are in a journal at once, the lease is free afterwards, and the next run goes on."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.drain import LEAVE_SECONDS, SILENT_SECONDS
from pipeline.graph import GraphConfig
from pipeline.ray_session import LocalRayConfig, ray_session
from pipeline.stop import SAME_SIGNAL_SECONDS, StopFlag
from tests.pipeline.drivers import (
    LIGHT_JOB,
    Driver,
    Environment,
    journal_files,
    journalled_ids,
    last_report,
    lease_record,
    light_arguments,
    light_job,
    run_light_job,
)
from tests.pipeline.light_stages import light_catalog, light_specs
from tests.pipeline.runs import committed, run_light, stage_files
from tests.pipeline.wrapped_stages import noted_lines

pytestmark = pytest.mark.engine

IDS = [f"clip-{number:02d}" for number in range(48)]
NEVER = 3600.0
"""A journal interval that no test lives to see: what is journalled, a signal journalled."""
ROWS_BACK = 16
"""So many rows through the last stage: two blocks at least, of which the driver has the first."""


SHORT = ("decode", "caption")


def started(output: Path, notes: Path, environment: Environment, *, seconds: float, drain_seconds: float) -> Driver:
    """A driver in the middle of the one shard of its catalog: rows are back, and nothing of them is written."""
    light_catalog(str(output), IDS, shard_size=len(IDS))
    driver = light_job(
        output,
        notes,
        environment,
        seconds=seconds,
        journal_seconds=NEVER,
        drain_seconds=drain_seconds,
        stages=",".join(SHORT),
    )
    assert driver.reaches(lambda: len(noted_lines(notes / "caption.done")) >= ROWS_BACK), driver.said()[-2000:]
    assert journal_files(output) == []
    return driver


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.chaos)]
)
def test_a_signal_journals_within_two_seconds_and_the_next_run_goes_on_from_there(
    tmp_path: Path, drivers_ray: Environment, number: signal.Signals, code: int
) -> None:
    output = tmp_path / "out"
    driver = started(output, tmp_path / "first", drivers_ray, seconds=0.3, drain_seconds=0.5)
    sent = time.time()
    driver.signal(number)
    assert driver.wait() == code, driver.said()[-2000:]
    first = min(path.stat().st_mtime for path in journal_files(output))
    assert first - sent < 2.0
    assert lease_record(output)["released"]
    assert stage_files(output) == {}
    assert last_report(output)["stopped"] == f"received {number.name}"
    journalled = journalled_ids(output)
    assert len(journalled) > 0

    report = run_light_job(output, tmp_path / "second", drivers_ray, stages=",".join(SHORT))
    assert report["items_from_journal"] == len(journalled)
    assert report["items_run"] == len(IDS) - len(journalled)
    reads = {line.strip() for line in noted_lines(tmp_path / "second" / "reads")}
    assert reads == set(IDS) - journalled
    tables = committed(output, light_specs(tmp_path, stages=SHORT))
    assert {stage: set(lines) for stage, lines in tables.items()} == {stage: set(IDS) for stage in tables}
    assert {line["type"] for line in tables["caption"].values()} == {"Caption"}
    assert journal_files(output) == []


def test_a_second_signal_leaves_at_once_with_what_is_journalled(tmp_path: Path, drivers_ray: Environment) -> None:
    output = tmp_path / "out"
    driver = started(output, tmp_path / "notes", drivers_ray, seconds=0.3, drain_seconds=NEVER)
    first = time.monotonic()
    driver.signal(signal.SIGTERM)
    assert driver.reaches(lambda: journal_files(output) != [] and time.monotonic() - first > 3 * SAME_SIGNAL_SECONDS), (
        driver.said()[-2000:]
    )
    sent = time.monotonic()
    driver.signal(signal.SIGTERM)
    assert driver.wait() == 143
    # Draining would have taken 48 rows of 0.3 s in each of the stages, and the test allows an hour for it.
    assert time.monotonic() - sent < 5.0
    assert "again, leaving now" in driver.said()
    assert journalled_ids(output) <= set(IDS)
    assert not (output / "runs" / lease_record(output)["run_id"] / "report.json").exists()


def test_a_signal_to_rays_own_processes_as_well_ends_the_driver_soon_with_what_came_back(
    tmp_path: Path, drivers_ray: Environment
) -> None:
    """As `timeout`, a supervisor or systemd sends it: to a driver's whole group, in which its own Ray is."""
    output, notes = tmp_path / "out", tmp_path / "notes"
    light_catalog(str(output), IDS, shard_size=len(IDS))
    options = light_arguments(
        output, notes, seconds=0.3, journal_seconds=NEVER, drain_seconds=60.0, stages=",".join(SHORT)
    )
    own_ray = {name: value for name, value in drivers_ray.items() if name != "RAY_ADDRESS"}
    driver = Driver.start(LIGHT_JOB, options, own_ray, notes / "log", own_group=True)
    assert driver.reaches(lambda: len(noted_lines(notes / "caption.done")) >= ROWS_BACK), driver.said()[-2000:]
    sent = time.monotonic()
    os.killpg(driver.process.pid, signal.SIGTERM)
    assert driver.wait() == 143, driver.said()[-2000:]
    assert time.monotonic() - sent < SILENT_SECONDS + 2 * LEAVE_SECONDS
    assert "the same command goes on from here" in driver.said()
    assert set(journalled_ids(output)) > set()


def test_a_signal_while_ray_shuts_down_costs_neither_report_nor_lease(
    tmp_path: Path, light_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = StopFlag()

    @contextlib.contextmanager
    def ends_slowly(local: LocalRayConfig, graph: GraphConfig) -> Iterator[None]:
        with ray_session(local, graph):
            yield
        os.kill(os.getpid(), signal.SIGTERM)
        until = time.monotonic() + 60.0
        while not flag.is_set:  # the thread that hears it is another one
            assert time.monotonic() < until, "nobody heard the signal"
            time.sleep(0.005)

    monkeypatch.setattr("pipeline.run.ray_session", ends_slowly)
    output = tmp_path / "out"
    light_catalog(str(output), IDS[:4], shard_size=2)
    report = run_light(output, dict(light_specs(tmp_path / "reads", stages=SHORT)), flag=flag)
    assert (report.stopped, report.shards_committed) == ("received SIGTERM", 2)
    assert last_report(output)["stopped"] == "received SIGTERM"
    assert lease_record(output)["released"]
