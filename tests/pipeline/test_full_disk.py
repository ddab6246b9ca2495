"""The output's disk fills up in the middle of a run: it ends with one line, keeps what is whole, and goes on later."""

import contextlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.clips import clip_bytes
from tests.jobs.test_broken_stores import mounted
from tests.pipeline.drivers import Environment, light_job, run_light_job
from tests.pipeline.light_stages import light_specs
from tests.pipeline.runs import committed

pytestmark = pytest.mark.engine

CLIPS = 24
STAGES = "decode,caption"


def test_a_disk_that_fills_up_in_the_middle_of_a_run(drivers_ray: Environment, tmp_path: Path) -> None:
    source, output = tmp_path / "clips", tmp_path / "out"
    source.mkdir()
    clip = clip_bytes(seconds=0.5)
    for number in range(CLIPS):
        (source / f"{number:02d}.mp4").write_bytes(clip)
    specs = light_specs(tmp_path, stages=STAGES.split(","))
    with mounted(output, 2 << 20):
        driver = light_job(
            output, tmp_path / "notes", drivers_ray, source=source, shard_size=4, seconds=0.15, stages=STAGES
        )
        assert driver.reaches(lambda: any(output.glob("stages/*/*/*.parquet")))
        filler = output / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        assert driver.wait() == 2, driver.said()[-2000:]
        lines = driver.said().splitlines()
        assert lines[-1].startswith("error: ")
        assert "the disk is full" in lines[-1]
        assert "Traceback" not in driver.said()
        assert list((output / ".tmp").glob("*.part")) == []
        for path in output.glob("**/*.parquet"):
            pq.read_table(path)
        before = committed(output, specs)
        assert before

        filler.unlink()
        report = run_light_job(output, tmp_path / "again", drivers_ray, source=source, stages=STAGES)
        assert (report["items_with_errors"], report["stopped"]) == (0, None)
        tables = committed(output, specs)
        assert {stage: len(lines) for stage, lines in tables.items()} == dict.fromkeys(specs, CLIPS)
        assert all(tables[stage][one] == line for stage, lines in before.items() for one, line in lines.items())
