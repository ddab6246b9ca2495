"""A run with a plan begins with what was planned, on the GPUs that were measured, and goes on where nodes are lost."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.stage import PoolConfig
from cluster.loads import Cluster as SizedOn
from cluster.nodes import ACCELERATOR_LABEL, Cluster, NodeGroup
from cluster.packing import Nodes, NodeType
from cluster.sizing import size_pools
from pipeline.config import apply_overrides
from pipeline.phases import Placer, make_phases, place_anew, place_stages
from pipeline.placement import Placement
from pipeline.planning import RESERVED, bare_loads
from pipeline.run_plan import RunPlan, read_plan
from pipeline.spec import Specs, StageSpec
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


def placer(specs: Specs, whole: Cluster, live: Cluster) -> Placer:
    return Placer(specs=specs, rows=10_000, in_flight=MOST, whole=lambda: whole, live=lambda: live)


def test_each_phase_of_a_planned_run_has_the_whole_cluster_and_goes_on_with_what_lives() -> None:
    made = planned({ONE_GPU: 4})
    assert made.plan.phases == [["decode", "caption"], ["embed"]]
    assert {made.plan.overrides[name]["pool"]["min_actors"] for name in ("caption", "embed")} == {1}
    specs, whole = with_plan(made.plan), Cluster(kinds=(GPU_GROUP.kind(),))
    two = Cluster(kinds=(replace(GPU_GROUP.kind(), count=2),))
    of_run = placer(specs, whole, two)
    assert of_run.phases(made.plan.phases, list(GPU_STAGES)) == made.plan.phases
    for phase in made.sizing.phases:
        placed = of_run.begin(list(phase.workers))
        engines = {name: count for name, count in phase.workers.items() if specs[name].pool.num_gpus}
        assert {name: placed[name].initial_actors for name in engines} == engines == dict.fromkeys(engines, 4)
        after = of_run.anew(phase.workers, placed)
        assert {(after[name].initial_actors, after[name].max_actors) for name in engines} == {(2, 4)}
        nowhere = placer(specs, Cluster(kinds=()), Cluster(kinds=()))
        assert nowhere.anew(phase.workers, placed) is placed, "what no node holds now waits for one"


def test_phases_that_do_not_fit_the_cluster_of_the_run_are_cut_anew() -> None:
    """Both share a GPU of the planned cluster; the run has one that is too small for that."""
    specs = {
        name: replace(spec, pool=replace(spec.pool, num_gpus=0.6 if name != "decode" else 0))
        for name, spec in GPU_STAGES.items()
    }
    one, two = (Cluster(kinds=(replace(GPU_GROUP.kind(), count=count),)) for count in (1, 2))
    needed = list(GPU_STAGES)
    assert placer(specs, two, two).phases([needed], needed) == [needed]
    assert placer(specs, one, one).phases([needed], needed) == [["decode", "caption"], ["embed"]]


SHARES = st.sampled_from((0.0, 0.1, 0.3, 0.4, 0.5, 0.6, 1.0))


@settings(max_examples=40, deadline=None)
@given(shares=st.lists(SHARES, min_size=4, max_size=4), gpus=st.integers(1, 3), count=st.integers(1, 3))
def test_every_phase_begins_with_the_engines_that_were_planned(shares: list[float], gpus: int, count: int) -> None:
    names = ("caption", "transcribe", "tag_audio", "embed")
    specs: dict[str, StageSpec] = {"decode": GPU_STAGES["decode"]}
    for name, share in zip(names, shares, strict=True):
        specs[name] = replace(GPU_STAGES["embed" if name == "embed" else "caption"], name=name)
        specs[name] = replace(specs[name], pool=PoolConfig(num_cpus=0.25, num_gpus=share))
    node = NodeType(name="gpu", cpus=32, gpus=gpus, memory_bytes=2**36)
    loads = [
        replace(load, seconds=1.0 + number)
        for number, load in enumerate(bare_loads(specs, dict.fromkeys(specs, 10_000), MOST))
    ]
    sizing = size_pools(loads, SizedOn(nodes={node: count}, reserved=RESERVED), 10_000)
    most = sizing.workers()
    specs = {name: replace(spec, pool=replace(spec.pool, max_actors=most[name])) for name, spec in specs.items()}
    cluster = Cluster(kinds=(NodeGroup(name="gpu", max_nodes=count, cpus=32, gpus=gpus).kind(),))
    of_run = placer(specs, cluster, cluster)
    phases = [list(phase.workers) for phase in sizing.phases]
    assert of_run.phases(phases, list(specs)) == phases
    for phase in sizing.phases:
        placed = of_run.begin(list(phase.workers))
        engines = [name for name in phase.workers if specs[name].pool.num_gpus]
        assert {name: placed[name].initial_actors for name in engines} == {
            name: phase.workers[name] for name in engines
        }


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
