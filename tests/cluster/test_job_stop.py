"""`ray job stop` on a submitted run: what is whole is saved, and the same job goes on from there."""

from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from tests.again import RecordProperty
from tests.cluster.disturbed import NARROW, SHIPPED, Disturbed
from tests.cluster.job_server import job_server
from tests.pipeline.chaos import catalog_ids, done_for_good, readable
from tests.pipeline.drivers import lease_record
from tests.pipeline.wrapped_stages import noted_lines

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

FILES_WAIT = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
"""As the files for KubeRay say."""


@pytest.mark.parametrize(
    ("variables", "ends_by_itself"), [({}, False), (FILES_WAIT, True)], ids=["three-seconds", "as-in-the-files"]
)
def test_a_stopped_job_is_submitted_again(
    tmp_path: Path, record_property: RecordProperty, variables: dict[str, str], ends_by_itself: bool
) -> None:
    """Rows take so long that three seconds are over in the middle of the drain."""
    run = Disturbed(tmp_path, record_property, items=96, seconds=2.0, settings=NARROW)
    with job_server(cpus=6, gpus=1, as_pod=False, HF_HUB_OFFLINE="1", **variables) as server:
        job = server.submit(run.command(**SHIPPED))
        run.works(job, 16)
        job.stop()
        assert job.wait() == JobStatus.STOPPED, job.said()[-3000:]
        assert "is saved" in job.said(), job.said()[-3000:]
        assert bool(lease_record(run.output).get("released")) == ends_by_itself, job.said()[-3000:]
        saved = set.union(*done_for_good(run.output))
        assert saved, job.said()[-3000:]
        again = server.submit(run.command(**{**SHIPPED, "seconds": 0.1}))
        assert again.wait() == JobStatus.SUCCEEDED, again.said()[-3000:]
    assert readable(noted_lines(run.notes / "reads")) == readable(catalog_ids(run.items)) - saved
    run.check(kills=1)
