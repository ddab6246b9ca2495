"""Nodes and drivers that go while they work: nothing is lost, nothing is there twice."""

import logging
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.job_submission import JobStatus

from pipeline.graph import GraphConfig
from pipeline.heartbeat import SILENT_SECONDS
from tests.again import RecordProperty
from tests.cluster.cluster_host import ClusterHost, cluster_host
from tests.cluster.disturbed import NARROW, POOLS, SHIPPED, Disturbed
from tests.cluster.job_server import job_server
from tests.cluster.pod import pod
from tests.pipeline.drivers import Driver, lease_record

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]


@pytest.fixture
def host() -> Iterator[ClusterHost]:
    with cluster_host() as one:
        yield one


def finished(run: Disturbed, driver: Driver) -> None:
    assert driver.wait() == 0, driver.said()[-3000:]
    run.check()


@pytest.mark.parametrize("graceful", [False, True])
def test_a_node_goes_with_its_running_workers(
    tmp_path: Path, record_property: RecordProperty, host: ClusterHost, graceful: bool
) -> None:
    nodes = [host.add(cpus=4, gpus=1) for _ in range(2)]
    run = Disturbed(tmp_path, record_property, items=160)
    driver = run.start(host.environment)
    run.works(driver, 24)
    victim = run.nodes_of("caption")[0]
    assert victim in nodes
    host.remove(victim, graceful=graceful)
    finished(run, driver)
    assert set(run.nodes_of("caption")) - {victim}, "another node took over"


def test_a_pod_on_a_spot_node_finishes_its_calls_before_it_goes(
    tmp_path: Path, record_property: RecordProperty, host: ClusterHost
) -> None:
    """With the seconds of the file for KubeRay. A call of four rows takes as many seconds."""
    host.add(cpus=4, gpus=1)
    run = Disturbed(tmp_path, record_property, items=160, seconds=1.0)
    with pod(host, cpus=4, gpus=1) as one:
        driver = run.start(host.environment)
        run.works(driver, 16)
        assert driver.reaches(lambda: 0 < run.calls_on(one.node, "ends") < run.calls_on(one.node, "begins") - 3)
        ended = run.calls_on(one.node, "ends")
        assert one.go(), "it was still there when its grace was over"
        assert driver.process.poll() is None, "the run was over before the node was gone"
        assert run.calls_on(one.node, "begins") == run.calls_on(one.node, "ends") >= ended + 3
        finished(run, driver)


def test_nodes_that_go_while_models_load_are_no_failed_starts(
    tmp_path: Path, record_property: RecordProperty, host: ClusterHost
) -> None:
    """As many as may fail; another comes once the silence of their workers has told that they are dead."""
    nodes = [host.add(cpus=4, gpus=2) for _ in range(GraphConfig().start_tries)]
    pools = {**POOLS, "caption": {**POOLS["caption"], "num_gpus": 1, "max_actors": len(nodes)}}
    settings = {"pools": pools, "load_seconds": {"caption": 60.0}}
    run = Disturbed(tmp_path, record_property, items=32, settings=settings)
    driver = run.start(host.environment)
    assert driver.reaches(lambda: len(run.nodes_of("decode")) > 0), driver.said()[-3000:]
    time.sleep(10.0)  # the captioners' processes are there before
    for node in nodes:
        host.remove(node)
    gone = time.monotonic()
    assert driver.reaches(lambda: time.monotonic() > gone + SILENT_SECONDS + 15, 0.5), driver.said()[-3000:]
    host.add(cpus=4, gpus=2)
    finished(run, driver)
    assert run.nodes_of("caption")
    assert not set(run.nodes_of("caption")) & set(nodes)


def test_half_the_nodes_go_at_once(tmp_path: Path, record_property: RecordProperty, host: ClusterHost) -> None:
    nodes = [host.add(cpus=3, gpus=1) for _ in range(4)]
    run = Disturbed(tmp_path, record_property, items=240)
    driver = run.start(host.environment)
    run.works(driver, 32)
    for node in nodes[:2]:
        host.remove(node)
    finished(run, driver)


def test_what_other_pools_leave_no_room_for_is_placed_anew(
    tmp_path: Path, record_property: RecordProperty, host: ClusterHost
) -> None:
    """Three captioners and a transcriber on halves of two GPUs: its node goes, and two captioners hold what is left.

    Few rows may be out, so that the captioners run dry and wait, and do not end by doing all that there is.
    """
    for _ in range(2):
        host.add(cpus=4, gpus=1)
    pools = {**POOLS, "caption": {**POOLS["caption"], "max_actors": 3}}
    pools["transcribe"] = {**pools["transcribe"], "num_gpus": 0.5, "max_actors": 1}
    settings = {"pools": pools, "graph": {"place_anew_seconds": 10}, "gate": {"max_rows_out": 64}}
    run = Disturbed(tmp_path, record_property, items=240, settings=settings)
    driver = run.start(host.environment)
    assert driver.reaches(lambda: len(run.nodes_of("caption")) >= 3), driver.said()[-3000:]
    run.works(driver, 24)
    host.remove(run.nodes_of("transcribe")[0])
    finished(run, driver)
    assert "placing the stages anew" in driver.said()


def test_a_node_goes_every_twenty_seconds_and_another_comes(
    tmp_path: Path, record_property: RecordProperty, host: ClusterHost
) -> None:
    nodes = [host.add(cpus=4, gpus=1) for _ in range(2)]
    run = Disturbed(tmp_path, record_property, items=480)
    driver = run.start(host.environment)
    run.works(driver, 8)
    gone = 0
    while gone < 4 and driver.process.poll() is None:
        host.remove(nodes.pop(0))
        gone += 1
        nodes.append(host.add(cpus=4, gpus=1))
        try:
            driver.process.wait(20)
        except subprocess.TimeoutExpired:
            continue
    finished(run, driver)
    assert gone > 1, "the run was over before a second node could go"


def test_the_head_dies_and_the_job_is_submitted_again(
    tmp_path: Path, record_property: RecordProperty, host: ClusterHost
) -> None:
    host.add(cpus=4, gpus=1)
    run = Disturbed(tmp_path, record_property, items=96, settings=NARROW)
    driver = run.start(host.environment)
    run.works(driver, 32)
    host.kill()
    driver.kill()
    with job_server(gpus=1) as another:
        job = another.submit(run.command())
        assert job.wait() == JobStatus.SUCCEEDED, job.said()[-3000:]
    run.check(kills=1)


def test_a_driver_whose_machine_goes_ends_within_its_thirty_seconds(
    tmp_path: Path, record_property: RecordProperty, host: ClusterHost
) -> None:
    """As long as nodes of the spot market have. It journals and drains as it does where nobody says otherwise.

    Rows take so long that the drain lasts as long as it may.
    """
    host.add(cpus=4, gpus=1)
    run = Disturbed(tmp_path, record_property, items=96, seconds=4.0, settings=NARROW)
    driver = run.start(host.environment, **SHIPPED)
    run.works(driver, 16)
    sent = time.monotonic()
    driver.signal(signal.SIGTERM)
    try:
        code = driver.process.wait(30.0)
    except subprocess.TimeoutExpired:
        driver.kill()
        pytest.fail(f"it did not end by itself: {driver.said()[-3000:]}")
    assert code == 143, driver.said()[-3000:]
    logger.info("ended after %.1f s", time.monotonic() - sent)
    assert "is saved" in driver.said()
    assert lease_record(run.output)["released"]
    assert run.start(host.environment, **{**SHIPPED, "seconds": 0.1}).wait() == 0
    run.check(kills=1)
