"""The command of every deployment file, taken out of it and run by a job server, on buckets of the same names."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from jobs.annotate import options_of
from jobs.cli import config_of
from pipeline.limits import parse_deadline
from pipeline.metrics import BYTES_READ
from pipeline.order import column_of
from pipeline.run_metrics import ITEMS
from tests.clips import clip_bytes
from tests.cluster.files import ANYSCALE, AWS, KUBERAY, entrypoint
from tests.cluster.job_server import job_server
from tests.pipeline.drivers import last_report
from tests.pipeline.scraping import Scrape, until
from tests.s3 import S3Server

FILES = (*KUBERAY, ANYSCALE, AWS)
BUCKET = "your-bucket"
LIGHT = "recipe: tiny\nstages: [decode]\n"


def commands(files: Sequence[Path]) -> dict[str, list[str]]:
    """Each command once, and the files that run it."""
    found: dict[str, list[str]] = {}
    for path in sorted(files, key=lambda one: len(entrypoint(one))):
        found.setdefault(entrypoint(path), []).append(path.name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_files_command_is_understood(path: Path) -> None:
    python, dash_m, module, *arguments = shlex.split(entrypoint(path))
    assert (python, dash_m, module) == ("python", "-m", "jobs.annotate")
    options = options_of(arguments)
    assert (options.source, options.output) == (f"s3://{BUCKET}/videos", f"s3://{BUCKET}/described")
    assert any(pool.num_gpus for pool in (config_of(options).caption.pool, config_of(options).transcribe.pool))
    if options.deadline is not None:
        assert parse_deadline(options.deadline) <= 86_400
        assert column_of(options.order) is None


def far_from_the_deadline() -> str:
    """A time zone in which it is not just before 06:00, when a run would stop at once."""
    return "Etc/GMT-6" if datetime.now(UTC).hour in (4, 5) else "Etc/UTC"


CHOICES = [
    pytest.param(KUBERAY, id="kuberay"),
    pytest.param(FILES, id="all", marks=pytest.mark.chaos),  # those of other clusters differ in the nodes they name
]


@pytest.mark.engine
@pytest.mark.parametrize("files", CHOICES)
def test_each_command_does_its_work_when_it_is_submitted(
    s3_server: S3Server, tmp_path: Path, files: Sequence[Path]
) -> None:
    """As in the file, but for the recipe, which only decodes, in earnest. Keys come by environment.

    A backfill begins with an empty output, the nightly run goes on with that of the backfill before it.
    """
    (tmp_path / "light.yaml").write_text(LIGHT)
    store = s3_server.client()
    store.create_bucket(Bucket=BUCKET)
    sizes: list[int] = []
    read = 0
    run_ids: dict[str, int] = {}
    with job_server(HF_HUB_OFFLINE="1", TZ=far_from_the_deadline()) as server:
        for night, (command, names) in enumerate(commands(files).items()):
            data = clip_bytes(seconds=1.0 + night)  # what is new since the command before
            store.put_object(Bucket=BUCKET, Key=f"videos/clip-{night}.mp4", Body=data)
            sizes.append(len(data))
            new = sizes[-1:] if "--refresh" in command else sizes
            read += sum(new)
            if "--refresh" not in command:
                for found in store.list_objects_v2(Bucket=BUCKET, Prefix="described/").get("Contents", []):
                    store.delete_object(Bucket=BUCKET, Key=found["Key"])
            light = command.replace("--recipe modern", f"--config {tmp_path / 'light.yaml'}")
            assert light != command
            status, said = server.run(light)
            assert status == JobStatus.SUCCEEDED, f"{names}: {said[-3000:]}"
            report = last_report(f"s3://{BUCKET}/described")
            assert (report["items_run"], report["items_with_errors"]) == (len(new), 0), names
            assert report["stages"]["decode"]["results"] == len(new)
            run_ids[report["run_id"]] = len(new)
        # The drivers and their workers are gone: what they counted last has not gone with them.
        seen = until(
            lambda: Scrape.of([server.metrics]),
            lambda scrape: all(
                scrape.total(ITEMS.exported_name, run_id=one, stage="decode") == count for one, count in run_ids.items()
            ),
        )
    for run_id, count in run_ids.items():
        assert seen.total(ITEMS.exported_name, run_id=run_id, stage="decode") == count
    assert seen.total(BYTES_READ.exported_name) == read
