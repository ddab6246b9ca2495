"""Phases never ask for more than the cluster has, run every stage once, and keep the order of the graph."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.stage import PoolConfig
from cluster.nodes import GROUP_LABEL, Cluster, NodeGroup
from cluster.packing import Need, NodeType, fits
from pipeline.gate import GateConfig
from pipeline.graph import RESERVED_CPUS, GraphConfig
from pipeline.in_flight import InFlight
from pipeline.phases import make_phases, place_anew, place_stages
from pipeline.spec import Specs
from records.errors import UserError
from tests.pipeline.light import SPECS, nothing


def with_pools(**pools: PoolConfig) -> Specs:
    return {name: replace(spec, pool=pools.get(name, PoolConfig()), build=nothing) for name, spec in SPECS.items()}


WIDE = InFlight(graph=GraphConfig(), gate=GateConfig(max_rows_out=2**20), shards=2_000, shard_rows=512)
"""A gate that holds more than any of these runs."""

GPUS = st.floats(0, 1) | st.just(2.0)


def one_node(cpus: float, gpus: int) -> Cluster:
    return Cluster(kinds=(NodeGroup(name="node", max_nodes=1, cpus=cpus, gpus=gpus).kind(),))


BIG = one_node(64, 8)


def test_a_big_cluster_runs_everything_at_once() -> None:
    assert make_phases(with_pools(), list(SPECS), BIG) == [["decode", "caption", "embed"]]


def test_one_gpu_for_two_whole_gpu_stages_makes_two_phases() -> None:
    specs = with_pools(caption=PoolConfig(num_gpus=1), embed=PoolConfig(num_gpus=1))
    assert make_phases(specs, list(SPECS), one_node(64, 1)) == [["decode", "caption"], ["embed"]]


def test_decode_has_a_place_where_its_own_table_is_finished() -> None:
    nodes = (NodeGroup(name="cpu", max_nodes=2, cpus=8), NodeGroup(name="gpu", max_nodes=1, cpus=8, gpus=1))
    specs = with_pools(caption=PoolConfig(num_gpus=1))
    placed = place_stages(specs, ["caption"], Cluster(kinds=tuple(group.kind() for group in nodes)), 8, WIDE)
    assert placed["decode"].label_selector == {GROUP_LABEL: "!in(gpu)"}
    assert set(place_stages(specs, ["embed"], Cluster(kinds=(nodes[0].kind(),)), 8, WIDE)) == {"embed"}


def test_a_pool_begins_with_no_more_workers_than_the_gate_lets_have_rows() -> None:
    gpu = NodeGroup(name="gpu", max_nodes=64, cpus=16, gpus=1)
    specs = with_pools(embed=PoolConfig(num_gpus=1, max_actors=64, batch_rows=64))
    cluster = Cluster(kinds=(gpu.kind(),))
    most = InFlight(graph=GraphConfig(), gate=GateConfig(), shards=40, shard_rows=512)
    assert place_stages(specs, ["embed"], cluster, 20_000, WIDE)["embed"].initial_actors == 40
    placed = place_stages(specs, ["embed"], cluster, 20_000, most)["embed"]
    assert (placed.initial_actors, placed.max_actors) == (16, 64)


def test_once_nodes_are_gone_pools_begin_with_what_lives_and_may_grow_as_before() -> None:
    gpu = NodeGroup(name="gpu", max_nodes=4, cpus=16, gpus=1)
    specs = with_pools(caption=PoolConfig(num_gpus=1, max_actors=8))
    whole, two = Cluster(kinds=(gpu.kind(),)), Cluster(kinds=(replace(gpu.kind(), count=2),))
    before = place_stages(specs, ["caption"], whole, 1000, WIDE)
    assert (before["caption"].initial_actors, before["caption"].max_actors) == (4, 4)
    after = place_anew(specs, ["caption"], whole, two, 1000, WIDE)
    assert (after["caption"].initial_actors, after["caption"].max_actors) == (2, 4)
    nothing_lives = Cluster(kinds=())
    waits = place_anew(specs, ["caption"], whole, nothing_lives, 1000, WIDE)
    assert waits == before, "for a node, as at the start"


def test_stages_whose_shares_add_up_and_fit_on_no_gpu_go_in_phases() -> None:
    """Two GPUs are 2 of 1.8, but three shares of 0.6 find places on two of them."""
    specs = with_pools(**{name: PoolConfig(num_gpus=0.6) for name in SPECS})
    assert make_phases(specs, list(SPECS), one_node(64, 2)) == [["decode", "caption"], ["embed"]]
    assert make_phases(specs, list(SPECS), one_node(64, 3)) == [["decode", "caption", "embed"]]


def test_a_stage_that_fits_nowhere_is_named_with_what_it_needs() -> None:
    specs = with_pools(caption=PoolConfig(num_gpus=4))
    with pytest.raises(UserError, match=r"a worker of caption needs .* 4 GPUs .*; the largest node .* has .* 2 GPUs"):
        make_phases(specs, list(SPECS), one_node(64, 2))
    beside = with_pools(caption=PoolConfig(num_cpus=4), decode=PoolConfig(num_cpus=4))
    with pytest.raises(UserError, match=r"caption, with decode and reading beside it, needs 8.5 CPUs, .*has 6 CPUs"):
        make_phases(beside, list(SPECS), one_node(6, 0))


def test_a_gpu_that_no_node_has_is_named_and_not_only_how_many_are_needed() -> None:
    """Needs 0.5 GPUs, the cluster has 8: that would be no answer."""
    group = NodeGroup(name="gpu", max_nodes=8, cpus=16, gpus=1, accelerator_type="H100")
    cluster = Cluster(kinds=(group.kind(),))
    specs = with_pools(caption=PoolConfig(num_gpus=0.5, accelerator_type="H200"))
    with pytest.raises(UserError, match="caption: no node has an accelerator 'H200'; the cluster has H100"):
        make_phases(specs, list(SPECS), cluster)


@given(
    cpus=st.floats(RESERVED_CPUS, 8),
    gpus=st.integers(0, 3),
    sizes=st.lists(st.tuples(st.floats(0, 3), GPUS, st.integers(1, 2)), min_size=3, max_size=3),
)
def test_any_cluster_gets_phases_that_fit_it_or_a_refusal(
    cpus: float, gpus: int, sizes: list[tuple[float, float, int]]
) -> None:
    pools = {
        name: PoolConfig(num_cpus=c, num_gpus=g, min_actors=n, max_actors=n)
        for name, (c, g, n) in zip(SPECS, sizes, strict=True)
    }
    node = NodeType(name="node", cpus=cpus, gpus=gpus)

    def fit(stages: list[str]) -> bool:
        """Whether there is any way to place them; readers take no GPU."""
        engines = [one for one in stages if pools[one].num_gpus]
        workers = [(Need(gpus=pools[one].num_gpus), pools[one].min_actors) for one in engines]
        taken = RESERVED_CPUS + sum(pools[one].num_cpus * pools[one].min_actors for one in stages)
        return taken <= cpus + 1e-5 and fits(workers, {node: 1})  # Ray counts in ten-thousandths

    try:
        phases = make_phases(with_pools(**pools), list(SPECS), one_node(cpus, gpus))
    except UserError:
        assert not (fit(["decode", "caption"]) and fit(["embed"])) or any(pool.num_gpus for pool in pools.values())
        return
    assert [stage for phase in phases for stage in phase if stage != "decode"] == ["caption", "embed"]
    for phase in phases:
        assert fit(phase)
        assert "decode" in phase or "caption" not in phase
