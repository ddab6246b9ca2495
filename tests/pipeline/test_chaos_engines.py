"""Kill -9 of the real command with the real engines: the next run ends with the tables of an undisturbed one."""

import logging
from pathlib import Path

import pytest

from pipeline.assemble import build_specs
from pipeline.config import apply_overrides, parse_settings
from pipeline.recipes import tiny
from tests.clips import make_clip
from tests.conftest import TinyModels
from tests.pipeline.drivers import Driver, Environment, last_report
from tests.pipeline.runs import committed, same_tables, stage_files

pytestmark = [pytest.mark.engine, pytest.mark.slow]

logger = logging.getLogger(__name__)

SETTINGS = ("shard_size=2", "loop.journal_seconds=1", "graph.block_rows=1", "graph.text_block_rows=1")
CLIPS = 6
STAGES = 6


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips that differ in length, shape and sound; one has no sound."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(CLIPS):
        make_clip(
            folder / f"clip-{number}.mp4",
            seconds=1.0 + 0.25 * number,
            width=112 if number % 2 else 84,
            height=84 if number % 2 else 112,
            audio=number != 3,
        )
    return folder


def annotate(source: Path, output: Path, environment: Environment, log: Path) -> Driver:
    arguments = ["--source", str(source), "--output", str(output), "--recipe", "tiny"]
    for setting in SETTINGS:
        arguments += ["--set", setting]
    return Driver.start("jobs.annotate", arguments, environment, log)


@pytest.mark.timeout(1200)
def test_a_killed_command_ends_as_an_undisturbed_one(
    tmp_path: Path, source: Path, drivers_ray: Environment, tiny_models: TinyModels
) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    driver = annotate(source, killed, drivers_ray, tmp_path / "killed.log")
    # The last stage's first file: one shard is whole, and the others are on their way.
    assert driver.reaches(lambda: any((killed / "stages" / "embed").rglob("*.parquet"))), driver.said()[-3000:]
    driver.kill()
    before = stage_files(killed)
    assert STAGES <= len(before) < STAGES * CLIPS // 2, "killed in the middle"

    driver = annotate(source, killed, drivers_ray, tmp_path / "killed.log")
    assert driver.wait() == 0, driver.said()[-3000:]
    after, report = stage_files(killed), last_report(killed)
    assert {name: after[name] for name in before} == before
    assert len(after) == STAGES * CLIPS // 2
    assert report["items_run"] + report["items_from_journal"] <= CLIPS - 2
    logger.info(
        "the second run did %d items, %d came from a journal", report["items_run"], report["items_from_journal"]
    )

    driver = annotate(source, undisturbed, drivers_ray, tmp_path / "undisturbed.log")
    assert driver.wait() == 0, driver.said()[-3000:]
    specs = build_specs(apply_overrides(tiny(), parse_settings(SETTINGS)))
    tables = committed(killed, specs)
    same_tables(tables, committed(undisturbed, specs))
    assert {stage: len(lines) for stage, lines in tables.items()} == dict.fromkeys(specs, CLIPS)
    assert all(line["type"] != "Failure" for lines in tables.values() for line in lines.values())
    assert tables["describe_audio"]["clip-3"]["note"] == "no_audio"
