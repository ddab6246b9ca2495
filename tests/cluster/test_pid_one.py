"""A pod that is told to go: the signal reaches its first process alone, and what the driver has done is saved."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from ray.job_submission import JobStatus

from tests.again import RecordProperty
from tests.cluster.disturbed import NARROW, SHIPPED, Disturbed
from tests.cluster.files import CLUSTER, ROOT, pods
from tests.cluster.job_server import NAMESPACE, job_server
from tests.pipeline.drivers import LIGHT_JOB, Driver, journalled_ids, last_report, lease_record, light_arguments
from tests.pipeline.light_stages import light_specs
from tests.pipeline.runs import committed

MISSING = 2
"""Items whose failure goes into no journal."""
HEAD = pods(CLUSTER / "kuberay" / "rayjob.yaml")["head"]


def may_have_a_namespace() -> bool:
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


def saved(run: Disturbed) -> set[str]:
    """Items that are committed, or wait in a journal for their shard."""
    return journalled_ids(run.output) | set(committed(run.output, light_specs(Path())).get("embed", {}))


pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not may_have_a_namespace(), reason="no PID namespace may be made here"),
]


@pytest.mark.parametrize("works", [False, True], ids=["head-without-work", "head-alone"])
def test_a_head_that_is_told_to_go_leaves_a_journal_and_a_free_lease(
    tmp_path: Path, record_property: RecordProperty, works: bool
) -> None:
    """As KubeRay starts it, with the environment of the file. Rows take long, and nothing would be saved before.

    Ray ends a drained node at once where no worker is on it: the driver's own gate and job are.
    """
    run = Disturbed(tmp_path, record_property, items=96, seconds=1.0, settings=NARROW)
    said = {one["name"]: one["value"] for one in HEAD["containers"][0]["env"] if one["name"].startswith("RAY_")}
    head_cpus, nodes = (6, ()) if works else (0, ("--num-cpus=6 --num-gpus=1",))
    with job_server(cpus=head_cpus, gpus=int(works), as_pod=True, others=nodes, **said) as server:
        job = server.submit(run.command(**{**SHIPPED, "journal-seconds": 600}))
        assert job.reaches(lambda: run.done("embed") >= 8), job.said()[-3000:]
        assert not saved(run)
        server.end_pod()
    report = last_report(run.output)
    assert report["stopped"] == "the node of this driver is being taken away"
    assert 0 < report["items_run"] - report["items_with_errors"] <= len(saved(run)) <= report["items_run"]
    assert lease_record(run.output)["released"]
    with job_server(gpus=1) as another:
        job = another.submit(run.command(seconds=0.1))
        assert job.wait() == JobStatus.SUCCEEDED, job.said()[-3000:]
    run.check(kills=1)


def test_a_container_whose_command_is_the_job_hears_the_signal(tmp_path: Path, record_property: RecordProperty) -> None:
    """As `docker run IMAGE python -m jobs.annotate …`: the image has no entrypoint of its own."""
    run = Disturbed(tmp_path, record_property, items=96, seconds=1.0, settings={**NARROW, "pools": {}})
    run.runs = 1
    arguments = light_arguments(run.output, run.notes, **run._options({**SHIPPED, "journal-seconds": 600}))
    log = run.notes / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*NAMESPACE, sys.executable, "-m", LIGHT_JOB, *arguments], cwd=ROOT, stdout=file, stderr=file
        )
    driver = Driver(process, log)
    try:
        assert driver.reaches(lambda: run.done("embed") >= 8), driver.said()[-3000:]
        through = run.done("embed")
        (first,) = psutil.Process(process.pid).children()
        first.send_signal(signal.SIGTERM)
        assert driver.wait() == 128 + signal.SIGTERM, driver.said()[-3000:]
    finally:
        driver.kill()
    assert "received SIGTERM: all that came back is saved" in driver.said()
    assert len(saved(run)) >= through - MISSING
    assert lease_record(run.output)["released"]
