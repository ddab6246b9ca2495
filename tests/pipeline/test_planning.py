"""From measurements to a plan: phases, overrides, prices and notes, without a worker."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.stage import PoolConfig
from cluster.cheapest import Offer
from cluster.estimate import DurationClass, Prediction, Wave, predict
from cluster.loads import Cluster
from cluster.packing import Need, Nodes, NodeType
from cluster.prices import PriceTable
from cluster.sizing import size_pools
from pipeline import planning
from pipeline.config import apply_overrides
from pipeline.gate import GateConfig
from pipeline.graph import GraphConfig
from pipeline.in_flight import InFlight
from pipeline.planning import Planned, PlanRequest, bare_loads, plan_run
from pipeline.probe import ProbeResult, StageProbe
from pipeline.recipes import modern
from pipeline.run_plan import StagePrediction, planned_phases
from pipeline.spec import Specs
from records.errors import UserError
from tests.pipeline.light import SPECS

GIB = 2**30
GPU_STAGES: Specs = {
    "decode": replace(SPECS["decode"], pool=PoolConfig(num_cpus=1)),
    "caption": replace(SPECS["caption"], pool=PoolConfig(num_cpus=1, num_gpus=1)),
    "embed": replace(SPECS["embed"], pool=PoolConfig(num_cpus=1, num_gpus=1)),
}
CPU = NodeType(name="cpu", cpus=4, memory_bytes=16 * GIB)
ONE_GPU = NodeType(name="gpu", cpus=16, gpus=1, accelerator="L4", memory_bytes=64 * GIB)
PRICES = PriceTable(
    currency="EUR",
    offers=(
        Offer(type=CPU, price_per_hour=1.0, most=4),
        Offer(type=ONE_GPU, price_per_hour=5.0, most=4),
        Offer(type=replace(ONE_GPU, name="other", accelerator="H100"), price_per_hour=0.1, most=9),
    ),
)


def stage(seconds: float, *, rows_at_once: int = 8, node_seconds: float = 0.0) -> StageProbe:
    waves = tuple(Wave(class_index=0, rows=8, seconds=8 * seconds, cpu_seconds=4 * seconds) for _ in range(2))
    return StageProbe(
        rows=16, failed=0, waves=waves, start_seconds=30.0, start_cpu_seconds=0.0, node_seconds=node_seconds,
        rows_at_once=rows_at_once, full_rows=8,
        output_bytes_per_item=100.0, block_bytes_per_item=1000.0, memory_bytes=GIB, gpu_memory_bytes=None, node_id="n",
    )  # fmt: skip


def in_flight(items: int, *, gate: int = 8192, shard_rows: int = 512, **graph: int) -> InFlight:
    config = GraphConfig(**graph)
    shards = -(-items // shard_rows)
    return InFlight(graph=config, gate=GateConfig(max_rows_out=gate), shards=shards, shard_rows=min(items, shard_rows))


def planned(
    nodes: Nodes | None,
    *,
    deadline: float | None = None,
    prices: PriceTable | None = PRICES,
    items: int = 10_000,
    node_seconds: float = 0.0,
    gate: int = 8192,
    stages: Sequence[str] = ("decode", "caption", "embed"),
) -> Planned:
    rows = dict.fromkeys(stages, items)
    probe = ProbeResult(
        classes=(DurationClass(start_seconds=0, end_seconds=float("inf"), items=16),),
        stages={
            "decode": stage(0.5),
            "caption": stage(2.0, rows_at_once=4, node_seconds=node_seconds),
            "embed": stage(0.05),
        },
        items=16,
        seconds=60.0,
        gpu_seconds=60.0,
    )
    request = PlanRequest(
        plan_id="p", recipe="modern", rows=rows, nodes=nodes, deadline_seconds=deadline, prices=prices
    )
    return plan_run(request, GPU_STAGES, in_flight(items, gate=gate), probe, {"caption": "L4", "embed": "L4"})


def test_one_gpu_for_two_stages_goes_in_phases_and_annotate_follows_them() -> None:
    plan = planned({ONE_GPU: 1}).plan
    assert plan.phases == [["decode", "caption"], ["embed"]]
    assert planned_phases(plan, ["decode", "caption", "embed"]) == plan.phases
    assert planned_phases(plan, ["embed"]) == [["embed"]]
    assert planned_phases(plan, ["transcribe"]) == []  # it was not planned
    assert planned_phases(None, ["embed"]) == []


def test_a_plan_of_one_phase_leaves_phases_to_the_cluster() -> None:
    plan = replace(planned({ONE_GPU: 1}).plan, phases=[["decode", "caption", "embed"]])
    assert planned_phases(plan, ["decode", "caption", "embed"]) == []


def test_its_overrides_are_ones_that_a_config_takes() -> None:
    plan = planned({ONE_GPU: 4, CPU: 1}).plan
    config = apply_overrides(modern(), plan.overrides)
    assert config.caption.pool.max_actors == plan.stages["caption"].workers
    assert config.caption.pool.accelerator_type == "L4"
    assert config.decode.pool.max_actors == plan.stages["decode"].workers


def test_decode_may_leave_the_nodes_without_gpus_where_they_do_not_hold_it() -> None:
    small = replace(CPU, cpus=2)
    crowded, roomy = planned({ONE_GPU: 16, small: 1}), planned({ONE_GPU: 16, replace(CPU, cpus=64): 1})
    assert crowded.plan.stages["decode"].workers > 2
    assert crowded.plan.overrides["decode"]["pool"]["nodes"] == "any"
    assert "nodes" not in crowded.plan.overrides["caption"]["pool"]
    assert "nodes" not in roomy.plan.overrides["decode"]["pool"]


def test_a_deadline_takes_the_gpus_that_were_measured_however_cheap_others_are() -> None:
    made = planned(None, deadline=4 * 3600.0)
    assert set(made.plan.nodes) <= {"cpu", "gpu"}
    assert made.plan.seconds.high <= 4 * 3600.0
    assert made.plan.prices is not None
    assert made.plan.prices.gpu_per_hour == 5.0
    assert made.plan.cost is not None
    whole = made.plan.prices.cluster_per_hour
    assert made.plan.cost.middle == pytest.approx(made.plan.seconds.middle / 3600 * whole)
    with pytest.raises(UserError, match="no cluster meets the deadline"):
        planned(None, deadline=600.0)


def test_a_table_too_long_to_look_at_all_its_clusters_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def notes() -> list[str]:
        return [
            note
            for note in planned(None, deadline=4 * 3600.0).plan.notes
            if "more clusters than were looked at" in note
        ]

    assert notes() == []
    monkeypatch.setattr("cluster.cheapest.MOST_CLUSTERS", 1)
    assert len(notes()) == 1


def test_workers_that_the_gate_leaves_without_rows_together_are_noted() -> None:
    """Each stage alone has rows for all of its workers; the rows of one are not there for the others."""
    nodes = {ONE_GPU: 8, CPU: 8}
    phases = planned(nodes).sizing.phases
    held = 8 * max(sum(phase.workers.values()) for phase in phases)  # each has one call, of eight rows
    assert held > 8 * max(max(phase.workers.values()) for phase in phases)

    def notes(gate: int, items: int = 10_000) -> list[str]:
        return [note for note in planned(nodes, gate=gate, items=items).plan.notes if "max_rows_out" in note]

    assert notes(held) == []
    (note,) = notes(held - 1)
    assert note.startswith(
        f"all workers at once hold {held} rows and gate.max_rows_out lets {held - 1} be on their way"
    )
    assert notes(held - 1, items=held - 1) == []


def unsure(nodes: int, hours: float) -> Planned:
    """Five stages that take about as long, each measured in eight waves that differ: the slowest may be any of them."""
    draws = np.random.default_rng(0)
    specs = {name: replace(SPECS["embed"], name=name, reads=(), pool=PoolConfig(num_cpus=1)) for name in "vwxyz"}
    stages = {
        name: replace(
            stage(1.0),
            rows=64,
            start_seconds=5.0,
            waves=tuple(Wave(class_index=0, rows=8, seconds=8 * took) for took in draws.lognormal(0, 0.3, 8)),
        )
        for name in specs
    }
    everything = DurationClass(start_seconds=0, end_seconds=float("inf"), items=64)
    probe = ProbeResult(classes=(everything,), stages=stages, items=64, seconds=60.0, gpu_seconds=0.0)
    offer = Offer(type=replace(CPU, cpus=400), price_per_hour=1.0, most=nodes)
    request = PlanRequest(
        plan_id="p", recipe="tiny", rows=dict.fromkeys(specs, 100_000), nodes=None, deadline_seconds=hours * 3600,
        prices=PriceTable(currency="EUR", offers=(offer,)),
    )  # fmt: skip
    return plan_run(request, specs, in_flight(100_000, gate=10**6), probe, {})


def test_what_is_chosen_for_a_deadline_is_in_time_with_its_whole_interval() -> None:
    """One node would be in time by the upper end of each stage, not by that of the slowest of five."""
    with pytest.raises(UserError, match=r"no cluster is sure to meet the deadline of 0\.41 h: .* may take 0\.43 h"):
        unsure(1, 0.41)
    assert unsure(2, 0.41).plan.seconds.high <= 0.41 * 3600


def test_a_refusal_names_the_fastest_of_the_clusters_that_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each choice is faster by the ends of its stages alone; the whole interval need not agree."""
    tried: list[float] = []

    def worse_each_time(*arguments: Any) -> Prediction:  # noqa: ANN401 - of the function
        made = predict(*arguments)
        made = replace(made, seconds=made.seconds.times(2 + 2 * len(tried)))
        tried.append(made.seconds.high)
        return made

    monkeypatch.setattr(planning, "predict", worse_each_time)
    with pytest.raises(UserError, match=r"the fastest of those tried may take 0\.43 h"):
        unsure(2, 0.41)
    assert tried[0] < 0.44 * 3600 < tried[-1]


def test_embedding_alone_is_planned_with_the_workers_that_the_gate_gives_blocks() -> None:
    """On as many nodes as one likes, 20,000 items take as long as their blocks do, sixteen at a time."""
    specs = {"embed": replace(SPECS["embed"], pool=PoolConfig(num_cpus=1, batch_rows=16))}
    probe = ProbeResult(
        classes=(DurationClass(start_seconds=0, end_seconds=float("inf"), items=16),), stages={"embed": stage(0.05)},
        items=16, seconds=60.0, gpu_seconds=0.0,
    )  # fmt: skip

    def plan_with(of: InFlight) -> StagePrediction:
        request = PlanRequest(plan_id="p", recipe="tiny", rows={"embed": 20_000}, nodes={CPU: 1000})
        return plan_run(request, specs, of, probe, {}).plan.stages["embed"]

    assert plan_with(in_flight(20_000)).workers == 16
    assert plan_with(in_flight(20_000, gate=2**20)).workers == 40
    assert plan_with(in_flight(20_000, text_block_rows=128)).workers == 64


def test_a_phase_of_texts_alone_has_fewer_workers_than_one_beside_media() -> None:
    loads = bare_loads(GPU_STAGES, dict.fromkeys(GPU_STAGES, 20_000), in_flight(20_000))
    bounds = [(load.most_workers, load.most_workers_of_texts) for load in loads]
    assert bounds == [(1024, None), (1024, None), (1024, 16)]
    timed = [replace(load, seconds=1.0, need=Need(cpus=1)) for load in loads]
    nodes = Cluster(nodes={CPU: 5000})
    (beside,), (alone,) = (size_pools(some, nodes, 20_000).phases for some in (timed, timed[2:]))
    assert (beside.workers["embed"], alone.workers["embed"]) == (1024, 16)
    assert size_pools([timed[0], timed[2]], nodes, 20_000).phases[0].workers["embed"] > 16  # decode too reads media


def test_models_that_load_at_once_on_few_cores_take_as_long_as_those_cores_do() -> None:
    """One after the other each took 30 s, for 24 s of a core: four on two cores take 48 s."""

    def seconds(start_cpu_seconds: float, cores: float) -> float:
        probe = ProbeResult(
            classes=(DurationClass(start_seconds=0, end_seconds=float("inf"), items=16),),
            stages={"decode": replace(stage(1.0), start_cpu_seconds=start_cpu_seconds)},
            items=16, seconds=60.0, gpu_seconds=0.0,
        )  # fmt: skip
        nodes = {replace(CPU, cpus=4.5): 1}
        request = PlanRequest(plan_id="p", recipe="tiny", rows={"decode": 512}, nodes=nodes, cores=cores)
        made = plan_run(request, GPU_STAGES, in_flight(512), probe, {})
        (phase,) = made.sizing.phases
        assert phase.workers == {"decode": 4 if cores > 1 else 2}
        assert made.plan.seconds.middle == pytest.approx(made.sizing.start_seconds + 512 / phase.items_per_second)
        return made.sizing.start_seconds

    assert seconds(0.0, 4.0) == 30.0
    assert seconds(24.0, 4.0) == 30.0
    assert seconds(24.0, 2.0) == 48.0
    assert seconds(24.0, 1.0) == 48.0


def test_nodes_that_the_table_does_not_know_have_no_price() -> None:
    made = planned({replace(ONE_GPU, cpus=3, name="unknown"): 2})
    assert (made.plan.prices, made.plan.cost) == (None, None)


def test_a_pool_that_the_sample_could_not_fill_is_noted() -> None:
    (note,) = planned({ONE_GPU: 4}).plan.notes
    assert note.startswith("caption: had 4 rows at a time, a worker of the run has 8")


def test_workers_that_take_more_memory_than_the_nodes_have_are_noted_for_each_phase() -> None:
    """Each took 1 GiB in the probe, and no pool asks for any."""

    def notes(gib: float) -> list[str]:
        made = planned({replace(ONE_GPU, memory_bytes=int(gib * GIB)): 4})
        assert [sum(phase.workers.values()) for phase in made.sizing.phases] == [5, 4]
        return [note for note in made.plan.notes if "GiB" in note]

    assert notes(1.25) == []
    (both,) = notes(1.2)
    assert both == (
        "decode+caption: all workers take 5.0 GiB of main memory, the nodes have 4.8 GiB for them; most of all "
        f"caption, 4 of 1.0 GiB: plan again with --set caption.pool.memory_bytes={GIB}"
    )
    assert [note.partition(":")[0] for note in notes(0.9)] == ["decode+caption", "embed"]


def test_the_wait_for_a_node_is_noted_and_no_part_of_the_time() -> None:
    there, came = planned({ONE_GPU: 4}).plan, planned({ONE_GPU: 4}, node_seconds=130.0).plan
    assert came.seconds == there.seconds
    assert set(came.notes) - set(there.notes) == {
        "a node took 130 s to come: the time counts from when the nodes are there"
    }
