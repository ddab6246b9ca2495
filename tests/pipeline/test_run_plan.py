"""A run with a plan begins with what was planned, on the GPUs that were measured, and goes on where nodes are lost."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.nodes import ACCELERATOR_LABEL, Cluster, NodeGroup
from cluster.packing import Nodes
from pipeline.config import apply_overrides
from pipeline.phases import make_phases, place_anew, place_stages
from pipeline.placement import Placement
from pipeline.run_plan import RunPlan, read_plan
from pipeline.spec import Specs
from tests.pipeline.test_planning import CPU, GPU_STAGES, ONE_GPU, in_flight, planned

CAPTION = ("decode", "caption")
GPU_GROUP = NodeGroup(name="gpu", max_nodes=4, cpus=16, gpus=1, accelerator_type="L4")
CPU_GROUP = NodeGroup(name="cpu", max_nodes=2, cpus=4)
MOST = in_flight(10_000)


def with_plan(plan: RunPlan) -> Specs:
    """The stages with the pools that the plan gives them."""
    return {
        name: replace(spec, pool=apply_overrides(spec.pool, plan.overrides[name]["pool"]))
        for name, spec in GPU_STAGES.items()
        if name in plan.overrides
    }


def begins(placed: dict[str, Placement]) -> dict[str, int]:
    return {name: placement.initial_actors for name, placement in placed.items()}


def test_a_planned_run_begins_with_all_its_engines_and_after_lost_nodes_with_those_that_have_one() -> None:
    plan = planned({ONE_GPU: 4}, stages=CAPTION).plan
    assert plan.phases == [["decode", "caption"]]
    assert plan.stages["caption"].workers == 4
    specs = with_plan(plan)
    whole = Cluster(kinds=(GPU_GROUP.kind(),))
    assert make_phases(specs, CAPTION, whole) == plan.phases
    before = place_stages(specs, CAPTION, whole, 10_000, MOST)
    assert (before["caption"].initial_actors, before["caption"].max_actors) == (4, 4)
    two = Cluster(kinds=(replace(GPU_GROUP.kind(), count=2),))
    after = place_anew(specs, CAPTION, whole, two, 10_000, MOST)
    assert (after["caption"].initial_actors, after["caption"].max_actors) == (2, 4)
    place_stages(specs, CAPTION, two, 10_000, MOST)  # nor is a run refused that begins on fewer nodes


@pytest.mark.parametrize("nodes", [{ONE_GPU: 8, CPU: 2}, {replace(ONE_GPU, gpus=8): 1}])
def test_a_planned_run_begins_with_what_was_planned_on_nodes_of_its_own_and_on_one_node(nodes: Nodes) -> None:
    made = planned(nodes, stages=CAPTION)
    workers = {name: stage.workers for name, stage in made.plan.stages.items()}
    assert min(workers.values()) > 1
    groups = [
        NodeGroup(name=one.name, max_nodes=count, cpus=one.cpus, gpus=one.gpus, accelerator_type=one.accelerator)
        for one, count in nodes.items()
    ]
    cluster = Cluster(kinds=tuple(group.kind() for group in groups))
    assert begins(place_stages(with_plan(made.plan), CAPTION, cluster, 10_000, MOST)) == workers


def test_a_planned_run_of_several_phases_begins_each_with_what_was_planned() -> None:
    """Placed with all that is needed: pools of two phases would have to share the GPUs."""
    made = planned({ONE_GPU: 4})
    assert len(made.plan.phases) == 2
    whole = Cluster(kinds=(GPU_GROUP.kind(),))
    placed = begins(place_stages(with_plan(made.plan), list(GPU_STAGES), whole, 10_000, MOST))
    assert placed == {name: stage.workers for name, stage in made.plan.stages.items()}


def test_stages_keep_to_the_gpus_that_they_were_measured_on() -> None:
    plan = planned({ONE_GPU: 4, CPU: 2}, stages=CAPTION).plan
    faster = NodeGroup(name="big", max_nodes=4, cpus=16, gpus=1, accelerator_type="H100")
    mixed = Cluster(kinds=(faster.kind(), GPU_GROUP.kind(), CPU_GROUP.kind()))
    placed = place_stages(with_plan(plan), CAPTION, mixed, 10_000, MOST)
    assert placed["caption"].label_selector == {ACCELERATOR_LABEL: "L4"}
    assert ACCELERATOR_LABEL not in placed["decode"].label_selector
    assert "accelerator_type" not in plan.overrides["decode"]["pool"]


def test_a_plan_whose_rate_has_no_upper_end_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Two waves that differ much leave it open whether an item costs anything."""
    plan = planned({ONE_GPU: 4}).plan
    plan = replace(plan, items_per_second=replace(plan.items_per_second, high=math.inf), cost=None, prices=None)
    (tmp_path / "plan.yaml").write_text(plan.as_yaml())
    assert read_plan(str(tmp_path / "plan.yaml")) == plan
