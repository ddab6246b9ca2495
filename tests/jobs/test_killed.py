"""Kill -9 of the real command and of an engine's worker, on S3: the tables are those of an undisturbed local run."""

import contextlib
import logging
import os
from pathlib import Path

import psutil
import pytest

from pipeline.assemble import build_specs
from pipeline.recipes import tiny
from storage.stores import Store
from tests.jobs.described import Described, items_of
from tests.pipeline.drivers import Driver, last_report
from tests.pipeline.publishing import objects
from tests.pipeline.runs import committed, same_tables
from tests.s3 import S3Server

logger = logging.getLogger(__name__)

SHARD_ITEMS = 2
LOOK_SECONDS = 0.5
"""A look at the store, or at all processes, takes from what it looks at: there are two cores."""
SETTINGS = (f"shard_size={SHARD_ITEMS}", "loop.journal_seconds=1", "graph.block_rows=1", "embed.pool.batch_rows=1")


def kill_captioner(driver: Driver) -> bool:
    """Kills the worker that holds the caption's engine, once that is there; says whether it is."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(driver.process.pid).children(recursive=True):
            if "EngineCore" in title_of(process):
                for worker in process.parents():
                    if "(caption)" in title_of(worker):
                        worker.kill()
                        return True
    return False


def title_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_command_ends_as_an_undisturbed_one(tmp_path: Path, described: Described, s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    for file in described.source.iterdir():
        s3_server.client().upload_file(str(file), bucket.removeprefix("s3://"), f"source/{file.name}")
    output, log, specs = f"{bucket}/out", tmp_path / "log", build_specs(tiny())
    arguments = ["--source", f"{bucket}/source", *described.arguments[2:], "--output", output]
    for setting in SETTINGS:
        arguments += ["--set", setting]
    items = len(items_of(described.source))
    files = len(specs) * -(-items // SHARD_ITEMS)
    store = Store.open(output)

    driver = Driver.start("jobs.annotate", arguments, dict(os.environ), log)
    # The last stage's first file: one shard is whole, and the others are on their way.
    assert driver.reaches(lambda: any(store.list("stages/embed/")), LOOK_SECONDS), driver.said()[-3000:]
    driver.kill()
    before = objects(output, "stages/")
    assert len(specs) <= len(before) < files, "killed in the middle"
    whole = len(committed(output, specs)["embed"])  # the last shard may be a small one

    driver = Driver.start("jobs.annotate", arguments, dict(os.environ), log)
    assert driver.reaches(lambda: kill_captioner(driver), LOOK_SECONDS), driver.said()[-3000:]
    assert driver.wait() == 0, driver.said()[-3000:]
    after, report = objects(output, "stages/"), last_report(output)
    assert {name: after[name] for name in before} == before
    assert len(after) == files
    assert report["items_run"] + report["items_from_journal"] <= items - whole
    logger.info("again: %d items run, %d from a journal", report["items_run"], report["items_from_journal"])
    same_tables(committed(output, specs), committed(described.output, specs))
