"""Kill -9 of the real command with the real engines: the same command again ends with an undisturbed run's tables."""

import logging
import os
from pathlib import Path

import pytest

from pipeline.assemble import build_specs
from pipeline.recipes import tiny
from tests.jobs.described import Described, items_of
from tests.pipeline.drivers import Driver, last_report
from tests.pipeline.runs import committed, same_tables, stage_files

logger = logging.getLogger(__name__)

SHARD_ITEMS = 2
SETTINGS = (f"shard_size={SHARD_ITEMS}", "loop.journal_seconds=1", "graph.block_rows=1", "embed.pool.batch_rows=1")


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_command_ends_as_an_undisturbed_one(tmp_path: Path, described: Described) -> None:
    output, log, specs = tmp_path / "out", tmp_path / "log", build_specs(tiny())
    arguments = [*described.arguments, "--output", str(output)]
    for setting in SETTINGS:
        arguments += ["--set", setting]
    items = len(items_of(described.source))
    files = len(specs) * -(-items // SHARD_ITEMS)

    driver = Driver.start("jobs.annotate", arguments, dict(os.environ), log)
    # The last stage's first file: one shard is whole, and the others are on their way.
    assert driver.reaches(lambda: any((output / "stages" / "embed").rglob("*.parquet"))), driver.said()[-3000:]
    driver.kill()
    before = stage_files(output)
    assert len(specs) <= len(before) < files, "killed in the middle"

    driver = Driver.start("jobs.annotate", arguments, dict(os.environ), log)
    assert driver.wait() == 0, driver.said()[-3000:]
    after, report = stage_files(output), last_report(output)
    assert {name: after[name] for name in before} == before
    assert len(after) == files
    assert report["items_run"] + report["items_from_journal"] <= items - SHARD_ITEMS
    logger.info("again: %d items run, %d from a journal", report["items_run"], report["items_from_journal"])
    same_tables(committed(output, specs), committed(described.output, specs))
