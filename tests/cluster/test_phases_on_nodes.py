"""A run in phases on a cluster of several nodes: each phase has all of their GPUs."""

import re
from pathlib import Path

import pytest

from cluster.estimate import Interval
from pipeline.run_plan import RunPlan
from tests.again import RecordProperty
from tests.cluster.cluster_host import cluster_host
from tests.cluster.disturbed import POOLS, Disturbed
from tests.pipeline.drivers import last_report

PHASES = [["decode", "caption"], ["decode", "transcribe"], ["embed"]]
UNKNOWN = Interval(low=0.0, middle=0.0, high=0.0)
PLAN = RunPlan(
    plan_id="by-hand", recipe="tiny", items=96, sample_items=1, fingerprints={}, nodes={}, phases=PHASES, overrides={},
    bottleneck="caption", stages={}, seconds=Interval(low=1.0, middle=1.0, high=1.0), items_per_second=UNKNOWN,
    gpu_hours=UNKNOWN,
)  # fmt: skip


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_each_phase_of_a_plan_has_an_engine_on_every_node(tmp_path: Path, record_property: RecordProperty) -> None:
    """Placed beside each other, captioner and transcriber would begin with one node each."""
    engine = {"num_cpus": 0.25, "num_gpus": 0.6, "max_actors": 2}
    run = Disturbed(
        tmp_path, record_property, items=96, seconds=0.2,
        settings={"pools": {**POOLS, "caption": engine, "transcribe": engine}},
    )  # fmt: skip
    (tmp_path / "plan.yaml").write_text(PLAN.as_yaml())
    with cluster_host() as host:
        nodes = {host.add(cpus=4, gpus=1) for _ in range(2)}
        driver = run.start(host.environment, plan=tmp_path / "plan.yaml")
        assert driver.wait() == 0, driver.said()[-3000:]
    run.check()
    assert last_report(run.output)["phases"] == PHASES
    begun = re.findall(r"workers of (.+) to begin with: (.+)", driver.said())
    assert [phase for phase, _ in begun] == ["+".join(phase) for phase in PHASES]
    assert [sizes.split(", ")[1:] for _, sizes in begun] == [["caption 2"], ["transcribe 2"], []]
    assert set(run.nodes_of("caption")) == set(run.nodes_of("transcribe")) == nodes
