"""From a probe to a plan: loads of the stages, sizes on a cluster, and what they will come to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.cheapest import Work, cheapest, left_out, spoken
from cluster.estimate import Costs, Interval, Prediction, cautious, estimate, predict
from cluster.loads import Cluster, StageLoad
from cluster.nodes import ACCELERATOR_LABEL
from cluster.packing import Need, Nodes
from cluster.prices import PriceTable
from cluster.sizing import PhaseSize, Sizing, rate, size_pools
from pipeline.graph import READER_CPUS, READERS
from pipeline.in_flight import InFlight
from pipeline.probe import ProbeResult
from pipeline.ray_nodes import all_nodes
from pipeline.run_plan import ClusterPrices, RunPlan, StagePrediction
from pipeline.spec import Specs
from records.errors import UserError

RESERVED = (Need(cpus=READER_CPUS),) * READERS
"""What runs beside the pools: readers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What is to be planned."""

    plan_id: str
    recipe: str
    rows: Mapping[str, int]
    """Stage to the items that it has to do, for those that have some; upstream first."""
    nodes: Nodes | None
    """The cluster; None for the cheapest that meets the deadline."""
    cores: float | None = None
    """Real cores of it, where they are fewer than its CPU slots."""
    deadline_seconds: float | None = None
    prices: PriceTable | None = None
    seed: int = 0

    @property
    def items(self) -> int:
        """Items that have something to do."""
        return max(self.rows.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and what it was made from."""

    plan: RunPlan
    sizing: Sizing
    costs: Mapping[str, Costs]
    prediction: Prediction


def bare_loads(specs: Specs, rows: Mapping[str, int], in_flight: InFlight) -> list[StageLoad]:
    """The stages with what their workers take, before anything is measured."""
    loads: list[StageLoad] = []
    for name, count in rows.items():
        spec = specs[name]
        pool = spec.pool
        loads.append(
            StageLoad(
                name=name,
                need=Need(
                    cpus=pool.num_cpus,
                    gpus=pool.num_gpus,
                    memory_bytes=pool.memory_bytes,
                    accelerator=pool.accelerator_type,
                ),
                seconds=0.0,
                most_workers=in_flight.most(spec, count, of_texts=False),
                most_workers_of_texts=None if spec.is_media else in_flight.most(spec, count, of_texts=True),
                needs_decode=spec.modality is not None,
            )
        )
    return loads


def accelerator_of(node_id: str) -> str | None:
    """The GPUs of a node, as Ray names them."""
    for node in all_nodes():
        if node["NodeID"] == node_id:
            labels: Mapping[str, str] = node["Labels"]
            return labels.get(ACCELERATOR_LABEL)
    return None


def plan_run(
    request: PlanRequest,
    specs: Specs,
    in_flight: InFlight,
    probe: ProbeResult,
    accelerators: Mapping[str, str | None],
) -> Planned:
    """Sizes the pools by what the probe measured.

    Args:
        in_flight: What bounds the workers beside the cluster.
        probe: The measurements.
        accelerators: Stage to the GPU that it was measured on: its seconds hold for no other.

    Raises:
        UserError: No cluster meets the deadline, or holds the stages.
    """
    costs = estimate(
        probe.classes, {name: one.waves for name, one in probe.stages.items()}, request.items, request.seed
    )
    factors = {name: count / request.items for name, count in request.rows.items()}
    loads = [
        StageLoad(
            name=load.name,
            need=Need(
                cpus=load.need.cpus,
                gpus=load.need.gpus,
                memory_bytes=load.need.memory_bytes,
                accelerator=(accelerators.get(load.name) or load.need.accelerator) if load.need.gpus else None,
            ),
            seconds=costs[load.name].seconds * factors[load.name],
            cpu_seconds=costs[load.name].cpu_seconds * factors[load.name],
            start_seconds=probe.stages[load.name].start_seconds,
            start_cpu_seconds=probe.stages[load.name].start_cpu_seconds,
            most_workers=load.most_workers,
            most_workers_of_texts=load.most_workers_of_texts,
            needs_decode=load.needs_decode,
        )
        for load in bare_loads(specs, request.rows, in_flight)
    ]
    sizing, prediction = _sized(request, loads, costs, factors)
    plan = _plan(request, specs, probe, sizing, costs, prediction)
    short = [in_flight.shortage(specs, phase.workers, request.items) for phase in sizing.phases]
    chosen_from = left_out(request.prices.offers) if request.nodes is None and request.prices is not None else None
    notes = [*plan.notes, *(note for note in dict.fromkeys([*short, chosen_from]) if note)]
    return Planned(plan=replace(plan, notes=notes), sizing=sizing, costs=costs, prediction=prediction)


def _sized(
    request: PlanRequest, loads: Sequence[StageLoad], costs: Mapping[str, Costs], factors: Mapping[str, float]
) -> tuple[Sizing, Prediction]:
    """Pools on the cluster named, or on the cheapest that meets the deadline with the upper end of its whole interval.

    The choice knows each stage's upper end alone; that of the slowest of several stages lies higher, so that it chooses
    again for less time until it is in time.
    """
    if request.nodes is not None:
        sizing = size_pools(loads, Cluster(nodes=request.nodes, reserved=RESERVED, cores=request.cores), request.items)
        return sizing, predict(sizing, costs, factors, request.items)
    assert request.deadline_seconds is not None, "jobs ask for a cluster or a deadline"
    assert request.prices is not None, "jobs ask for prices with a deadline"
    work = Work(
        loads=cautious(loads, costs, factors),
        items=request.items,
        deadline_seconds=request.deadline_seconds,
        reserved=RESERVED,
    )
    shortest: float | None = None
    while True:
        try:
            chosen = cheapest(request.prices.offers, work)
        except UserError:
            if shortest is None:
                raise
            raise UserError(
                f"no cluster is sure to meet the deadline of {spoken(request.deadline_seconds)}: the fastest of those "
                f"tried may take {spoken(shortest)}; a larger --sample makes surer"
            ) from None
        sizing = Sizing(phases=_with_rates(chosen, loads), loads=tuple(loads), cluster=chosen.cluster)
        prediction = predict(sizing, costs, factors, request.items)
        shortest = min(shortest or math.inf, prediction.seconds.high)
        late = prediction.seconds.high / request.deadline_seconds
        if late <= 1:
            return sizing, prediction
        work = replace(work, deadline_seconds=work.deadline_seconds / max(late, 1.01))


def _with_rates(chosen: Sizing, loads: Sequence[StageLoad]) -> tuple[PhaseSize, ...]:
    """The same workers at the loads as they are estimated: a deadline is held with more careful ones."""
    phases: list[PhaseSize] = []
    for phase in chosen.phases:
        here = [load for load in loads if load.name in phase.workers]
        pace, bottleneck = rate(here, phase.workers, chosen.cluster)
        phases.append(PhaseSize(workers=phase.workers, items_per_second=pace, bottleneck=bottleneck))
    return tuple(phases)


def _plan(
    request: PlanRequest,
    specs: Specs,
    probe: ProbeResult,
    sizing: Sizing,
    costs: Mapping[str, Costs],
    prediction: Prediction,
) -> RunPlan:
    nodes = sizing.cluster.nodes
    slowest = min(sizing.phases, key=lambda phase: phase.items_per_second)
    prices = ClusterPrices.of(nodes, request.prices) if request.prices is not None else None
    return RunPlan(
        plan_id=request.plan_id,
        recipe=request.recipe,
        items=request.items,
        sample_items=probe.items,
        fingerprints={name: specs[name].fingerprint for name in request.rows},
        nodes={type_.name: count for type_, count in nodes.items()},
        phases=[[name for name in request.rows if name in phase.workers] for phase in sizing.phases],
        overrides=_overrides(sizing),
        bottleneck=slowest.bottleneck,
        stages={name: _stage(name, request, probe, sizing, costs) for name in request.rows},
        seconds=prediction.seconds,
        items_per_second=prediction.items_per_second,
        gpu_hours=prediction.gpu_hours,
        cost=prediction.seconds.times(prices.cluster_per_hour / 3600) if prices is not None else None,
        prices=prices,
        notes=[*_memory_notes(probe, sizing), *_notes(probe, whole=probe.items >= request.items)],
    )


def _overrides(sizing: Sizing) -> dict[str, dict[str, dict[str, int | str]]]:
    """Stage to the settings of its pool; GPUs are those that the probe measured.

    Pools without GPUs that need cores of nodes with GPUs as well are told that they may have them.
    """
    found: dict[str, dict[str, dict[str, int | str]]] = {}
    spilling = any(sizing.cluster.spills(sizing.loads, phase.workers) for phase in sizing.phases)
    for load in sizing.loads:
        counts = [phase.workers[load.name] for phase in sizing.phases if load.name in phase.workers]
        pool: dict[str, int | str] = {"min_actors": _least(load, counts, sizing), "max_actors": max(counts)}
        if load.need.gpus and load.need.accelerator is not None:
            pool["accelerator_type"] = load.need.accelerator
        found[load.name] = {"pool": {**pool, "nodes": "any"} if spilling and not load.need.gpus else pool}
    return found


def _least(load: StageLoad, counts: Sequence[int], sizing: Sizing) -> int:
    """Workers without which a pool does not go on: one, so that a run that lost nodes begins anew with what lives.

    `pipeline.placement` begins each phase with all workers that were planned where they have GPUs, or nodes of their
    own; others grow to them. Where one node is all there is, nothing lives once it is gone, and they begin with all as
    well.
    """
    return min(counts) if sum(sizing.cluster.nodes.values()) == 1 and not load.need.gpus else 1


def _stage(
    name: str, request: PlanRequest, probe: ProbeResult, sizing: Sizing, costs: Mapping[str, Costs]
) -> StagePrediction:
    load = next(load for load in sizing.loads if load.name == name)
    phases = [phase for phase in sizing.phases if name in phase.workers]
    busy = [load.seconds * phase.items_per_second / phase.workers[name] for phase in phases if load.seconds]
    return StagePrediction(
        items=request.rows[name],
        workers=max(phase.workers[name] for phase in phases),
        seconds_per_item=Interval.of(costs[name].seconds, costs[name].seconds_draws),
        busy_share=max(busy, default=0.0),
        output_bytes_per_item=probe.stages[name].output_bytes_per_item,
    )


def _notes(probe: ProbeResult, *, whole: bool) -> list[str]:
    """What makes the prediction weaker than its interval says; `whole` where the sample is all that there is to do."""
    notes: list[str] = []
    waited = max((stage.node_seconds for stage in probe.stages.values()), default=0.0)
    if waited:
        notes.append(f"a node took {waited:.0f} s to come: the time counts from when the nodes are there")
    if whole:
        return notes
    for name, stage in probe.stages.items():
        if not stage.rows:
            notes.append(f"{name}: no sampled item needs it, so that it counts as free; a larger --sample may hold one")
        elif stage.rows_at_once < stage.full_rows and name != "embed":
            notes.append(
                f"{name}: had {stage.rows_at_once} rows at a time, a worker of the run has {stage.full_rows}: its pace "
                "is a lower bound, a larger --sample comes nearer"
            )
    return notes


def _memory_notes(probe: ProbeResult, sizing: Sizing) -> list[str]:
    """Phases whose workers take more main memory than all nodes have, by what one worker of each stage took."""
    there = sum(type_.memory_bytes * count for type_, count in sizing.cluster.nodes.items())
    notes: list[str] = []
    for phase in sizing.phases:
        taken = {name: count * probe.stages[name].memory_bytes for name, count in phase.workers.items()}
        if (together := sum(taken.values())) > there:
            most = max(taken, key=lambda name: taken[name])
            each = probe.stages[most].memory_bytes
            notes.append(
                f"{'+'.join(taken)}: all workers take {_gib(together)} of main memory, the nodes have {_gib(there)} "
                f"for them; most of all {most}, {phase.workers[most]} of {_gib(each)}: plan again with "
                f"--set {most}.pool.memory_bytes={each}"
            )
    return notes


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
