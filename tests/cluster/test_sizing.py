"""Sizes never ask for more than there is, starve no stage, and are never slower on more."""

import itertools
import math
from dataclasses import replace
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.loads import Cluster, StageLoad
from cluster.packing import Need, Nodes, NodeType
from cluster.sizing import Sizing, rate, size_pools, start_seconds
from records.errors import UserError
from tests.cluster.clusters import GIB, cluster_of, fits_by_trying, fits_one_by_one, node_sets, stage_loads

ITEMS = 1000.0
SMALL = NodeType(name="small", cpus=4, memory_bytes=16 * GIB)
GPU = NodeType(name="gpu", cpus=8, gpus=2, memory_bytes=64 * GIB)


def sized(loads: list[StageLoad], cluster: Cluster) -> Sizing | None:
    try:
        return size_pools(loads, cluster, ITEMS)
    except UserError:
        return None


@settings(max_examples=150, deadline=None)
@given(loads=stage_loads(), nodes=node_sets())
def test_no_stage_starves_and_nothing_is_taken_twice(loads: list[StageLoad], nodes: Nodes) -> None:
    cluster = cluster_of(nodes)
    sizing = sized(loads, cluster)
    if sizing is None:
        assert any(not _alone_fits(load, loads, cluster) for load in loads)
        return
    assert set().union(*(phase.workers for phase in sizing.phases)) == {load.name for load in loads}
    for phase in sizing.phases:
        here = [load for load in loads if load.name in phase.workers]
        assert all(phase.workers[load.name] >= 1 for load in here)
        assert all(phase.workers[load.name] <= (load.most_workers or math.inf) for load in here)
        assert any(load.needs_decode for load in here) <= ("decode" in phase.workers)
        workers = [(load.need, phase.workers[load.name]) for load in here] + [(need, 1) for need in cluster.reserved]
        for what in (attrgetter("cpus"), attrgetter("gpus"), attrgetter("memory_bytes")):
            asked = sum(what(need) * count for need, count in workers)
            assert asked <= sum(what(type_) * count for type_, count in nodes.items()) + 1e-9
        if sum(phase.workers.values()) <= 8:  # trying everything takes too long for more
            assert fits_by_trying(workers, nodes)


def _alone_fits(load: StageLoad, loads: list[StageLoad], cluster: Cluster) -> bool:
    both = [one for one in loads if one is load or (one.name == "decode" and load.needs_decode)]
    return cluster.holds(both, {one.name: 1 for one in both})


def roomy(nodes: Nodes) -> Nodes:
    """The same GPUs on nodes whose cores and memory hold any worker that they hold."""
    return {replace(type_, cpus=1000, memory_bytes=1000 * GIB): count for type_, count in nodes.items()}


@settings(max_examples=150, deadline=None)
@given(loads=stage_loads(), nodes=node_sets(), roomy_nodes=st.booleans(), data=st.data())
def test_more_of_anything_is_never_slower(
    loads: list[StageLoad], nodes: Nodes, roomy_nodes: bool, data: st.DataObject
) -> None:
    """Of engines that are placed in order, where GPUs alone bound them; of all else anywhere."""
    if roomy_nodes:
        nodes = roomy(nodes)
    else:
        loads = [replace(load, need=replace(load.need, gpus=0.0)) for load in loads]
    before = sized(loads, cluster_of(nodes))
    if before is None:
        return
    type_ = data.draw(st.sampled_from(list(nodes)))
    larger = data.draw(
        st.sampled_from(
            (
                type_,
                replace(type_, cpus=type_.cpus + 1),
                replace(type_, gpus=type_.gpus + 1),
                replace(type_, memory_bytes=type_.memory_bytes + GIB),
            )
        )
    )
    more = {(larger if one == type_ else one): count + (larger == type_ == one) for one, count in nodes.items()}
    after = size_pools(loads, cluster_of(more), ITEMS)
    assert after.seconds(ITEMS) <= before.seconds(ITEMS) * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(loads=stage_loads(), nodes=node_sets())
def test_no_other_number_of_workers_is_faster(loads: list[StageLoad], nodes: Nodes) -> None:
    """Of all rates whose workers fit at once, up to four of each, none beats the chosen one."""
    cluster = cluster_of(nodes)
    sizing = sized(loads, cluster)
    counts = [range(1, min(load.most_workers or 4, 4) + 1) for load in loads]
    for vector in _product(counts):
        workers = {load.name: count for load, count in zip(loads, vector, strict=True)}
        pace, _ = rate(loads, workers, cluster)
        needed = {load.name: max(1, math.ceil(pace * load.seconds - 1e-9)) for load in loads if math.isfinite(pace)}
        if cluster.holds(loads, needed or workers):  # without those that would have nothing to do
            assert sizing is not None
            assert sizing.seconds(ITEMS) <= (start_seconds(loads) + ITEMS / pace) * (1 + 1e-9)


@settings(max_examples=150, deadline=None)
@given(loads=stage_loads(), nodes=node_sets())
def test_engines_find_their_places_in_the_order_in_which_a_run_asks_for_them(
    loads: list[StageLoad], nodes: Nodes
) -> None:
    if (sizing := sized(loads, cluster_of(nodes))) is not None:
        for phase in sizing.phases:
            asked = [load for load in loads if load.name in phase.workers and load.name not in ("decode", "embed")]
            asked = sorted(asked, key=lambda load: -load.need.gpus)
            asked += [load for load in loads if load.name in phase.workers and load.name == "embed"]
            engines = [(load.need, phase.workers[load.name]) for load in asked if load.need.gpus]
            with_gpus = {type_: count for type_, count in nodes.items() if type_.gpus}
            assert fits_one_by_one(engines, with_gpus)


def test_what_fits_in_another_order_alone_goes_in_phases() -> None:
    """0.4 + 0.3 + 0.3 on one GPU and 0.4 + 0.6 on the other: but the two of 0.4 come first, and share one."""
    shares = {"caption": 0.4, "describe_audio": 0.4, "transcribe": 0.3, "tag_audio": 0.3, "embed": 0.6}
    loads = [
        StageLoad(name=name, need=Need(gpus=share), seconds=1.0, needs_decode=name != "embed")
        for name, share in shares.items()
    ]
    cluster = Cluster(nodes={GPU: 1})
    ones = dict.fromkeys(shares, 1)
    assert cluster.has_room(loads, ones)
    assert not cluster.holds(loads, ones)
    assert len(size_pools(loads, cluster, ITEMS).phases) == 2


@settings(max_examples=100, deadline=None)
@given(loads=stage_loads(), nodes=node_sets())
def test_no_cut_into_two_runs_is_faster_than_one(loads: list[StageLoad], nodes: Nodes) -> None:
    """Loading of models included, for few items and for many."""
    decode, others = loads[0], loads[1:]
    for cut, items in itertools.product(range(1, len(others)), (10.0, ITEMS)):
        parts = [
            [decode, *part] if any(load.needs_decode for load in part) else part
            for part in (others[:cut], others[cut:])
        ]
        try:
            seconds = [size_pools(part, cluster_of(nodes), items).seconds(items) for part in parts]
        except UserError:
            continue
        assert size_pools(loads, cluster_of(nodes), items).seconds(items) <= sum(seconds) * (1 + 1e-9)


def _product(counts: list[range]) -> list[tuple[int, ...]]:
    vectors: list[tuple[int, ...]] = [()]
    for count in counts[:4]:
        vectors = [(*vector, one) for vector in vectors for one in count]
    return [(*vector, *(1 for _ in counts[4:])) for vector in vectors]


def test_the_bottleneck_gets_what_the_others_leave() -> None:
    loads = [
        StageLoad(name="decode", need=Need(cpus=1), seconds=0.5, cpu_seconds=0.5),
        StageLoad(name="caption", need=Need(cpus=1, gpus=1), seconds=2.0, needs_decode=True),
        StageLoad(name="embed", need=Need(cpus=1), seconds=0.01),
    ]
    (phase,) = size_pools(loads, Cluster(nodes={GPU: 1, SMALL: 1}), ITEMS).phases
    assert phase.workers == {"decode": 1, "caption": 2, "embed": 1}
    assert (phase.items_per_second, phase.bottleneck) == (1.0, "GPUs, most of all for caption")


def test_a_gpu_gives_one_second_a_second_however_many_share_it() -> None:
    loads = [StageLoad(name="caption", need=Need(gpus=0.25), seconds=1.0)]
    (phase,) = size_pools(loads, Cluster(nodes={GPU: 1}), ITEMS).phases
    assert (phase.workers, phase.items_per_second) == ({"caption": 2}, 2.0)


def test_cores_bind_where_a_worker_uses_more_than_its_slot() -> None:
    loads = [StageLoad(name="decode", need=Need(cpus=0.5), seconds=1.0, cpu_seconds=2.0)]
    (phase,) = size_pools(loads, Cluster(nodes={SMALL: 1}), ITEMS).phases
    assert (phase.items_per_second, phase.bottleneck) == (2.0, "cores, most of all for decode")
    (phase,) = size_pools(loads, Cluster(nodes={SMALL: 1}, cores=2), ITEMS).phases
    assert phase.items_per_second == 1.0


def test_gpus_of_another_sort_are_no_help() -> None:
    """Four workers share the one H100; three L4 stand by."""
    loads = [StageLoad(name="caption", need=Need(gpus=0.25, accelerator="H100"), seconds=1.0)]
    nodes = {
        NodeType(name="h100", cpus=8, gpus=1, accelerator="H100"): 1,
        NodeType(name="l4", cpus=8, gpus=1, accelerator="L4"): 3,
    }
    (phase,) = size_pools(loads, Cluster(nodes=nodes), ITEMS).phases
    assert (phase.items_per_second, phase.bottleneck) == (1.0, "GPUs, most of all for caption")


def test_a_phase_of_texts_has_no_more_workers_than_its_larger_blocks() -> None:
    embed = StageLoad(
        name="embed", need=Need(cpus=1), seconds=1.0, most_workers=None, most_workers_of_texts=2, start_seconds=1.0
    )
    decode = StageLoad(name="decode", need=Need(cpus=1), seconds=1.0)
    assert size_pools([embed], Cluster(nodes={SMALL: 2}), ITEMS).workers() == {"embed": 2}
    assert size_pools([decode, embed], Cluster(nodes={SMALL: 2}), ITEMS).workers() == {"decode": 4, "embed": 4}


def test_decode_runs_also_where_no_stage_looks_at_what_it_makes() -> None:
    loads = [StageLoad(name=name, need=Need(cpus=1), seconds=1.0) for name in ("decode", "embed")]
    assert set(size_pools(loads, Cluster(nodes={SMALL: 1}), ITEMS).workers()) == {"decode", "embed"}


def test_models_on_gpus_load_one_after_the_other_those_without_beside_them() -> None:
    def load(start: float, gpus: float) -> StageLoad:
        return StageLoad(name=f"{start}", need=Need(gpus=gpus), seconds=1.0, start_seconds=start)

    assert start_seconds([load(60.0, 0.5), load(40.0, 0.1), load(70.0, 0.0)]) == 100.0
    assert start_seconds([load(60.0, 0.5), load(70.0, 0.0)]) == 70.0


def test_what_does_not_fit_at_once_goes_in_phases() -> None:
    loads = [
        StageLoad(name="decode", need=Need(cpus=1), seconds=0.5),
        StageLoad(name="caption", need=Need(gpus=1), seconds=1.0, start_seconds=60, needs_decode=True),
        StageLoad(name="describe_audio", need=Need(gpus=1), seconds=1.0, start_seconds=40, needs_decode=True),
        StageLoad(name="embed", need=Need(gpus=1), seconds=0.1),
    ]
    one = NodeType(name="one", cpus=8, gpus=1, memory_bytes=GIB)
    sizing = size_pools(loads, Cluster(nodes={one: 1}), ITEMS)
    assert [list(phase.workers) for phase in sizing.phases] == [
        ["decode", "caption"],
        ["decode", "describe_audio"],
        ["embed"],
    ]
    assert sizing.seconds(ITEMS) == pytest.approx(60 + 40 + ITEMS * (1.0 + 1.0 + 0.1))


def test_phases_are_taken_where_they_are_faster_although_all_would_fit() -> None:
    loads = [
        StageLoad(name="caption", need=Need(gpus=1), seconds=10.0),
        StageLoad(name="describe_audio", need=Need(gpus=1), seconds=1.0),
    ]
    sizing = size_pools(loads, Cluster(nodes={GPU: 1}), ITEMS)
    assert [dict(phase.workers) for phase in sizing.phases] == [{"caption": 2}, {"describe_audio": 2}]
    assert sizing.seconds_per_item == pytest.approx(5.5)


def test_pools_without_gpus_spill_where_nodes_without_do_not_hold_them() -> None:
    loads = [
        StageLoad(name="decode", need=Need(cpus=1), seconds=1.0),
        StageLoad(name="caption", need=Need(cpus=1, gpus=1), seconds=1.0, needs_decode=True),
    ]
    cluster = Cluster(nodes={GPU: 1, SMALL: 1})
    assert not cluster.spills(loads, {"decode": 4, "caption": 2})
    assert cluster.spills(loads, {"decode": 5, "caption": 2})
    assert not Cluster(nodes={GPU: 1}).spills(loads, {"decode": 5, "caption": 2})
    assert not Cluster(nodes={SMALL: 1}).spills(loads[:1], {"decode": 5})


def test_a_stage_that_fits_nowhere_is_named() -> None:
    loads = [StageLoad(name="caption", need=Need(gpus=4), seconds=1.0)]
    with pytest.raises(UserError, match="no room for a worker of caption: together 0 CPUs, 4 GPUs"):
        size_pools(loads, Cluster(nodes={GPU: 9}), ITEMS)


def test_a_hundred_nodes_are_sized_at_once() -> None:
    big = NodeType(name="big", cpus=192, gpus=8, memory_bytes=1024 * GIB)
    shares = {"caption": (0.5, 2.0), "transcribe": (0.1, 0.2), "describe_audio": (0.3, 0.7), "tag_audio": (0.05, 0.02)}
    loads = [StageLoad(name="decode", need=Need(cpus=1), seconds=1.5, cpu_seconds=1.6)] + [
        StageLoad(name=name, need=Need(cpus=1, gpus=share), seconds=seconds, cpu_seconds=0.1, needs_decode=True)
        for name, (share, seconds) in shares.items()
    ]
    cluster = Cluster(nodes={big: 100, NodeType(name="cpu", cpus=64, memory_bytes=256 * GIB): 100})
    (phase,) = size_pools(loads, cluster, 1e8).phases
    assert phase.bottleneck == "GPUs, most of all for caption"
    assert phase.items_per_second == pytest.approx(800 / (2.0 + 0.2 + 0.7 + 0.02))
