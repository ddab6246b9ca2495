"""Where pools go: off the GPU nodes where others hold them, to the GPU they name, and never more than nodes hold."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.stage import PoolConfig
from cluster.capacity import Capacity
from cluster.nodes import NodeGroup
from cluster.packing import Need, NodeType, fits_in_order
from pipeline.cluster_view import make_cluster
from pipeline.placement import one_worker, place, place_all
from records.errors import UserError

CPU = NodeGroup(name="cpu", max_nodes=4, cpus=16)
GPU = NodeGroup(name="gpu", max_nodes=2, cpus=8, gpus=1, accelerator_type="L4")
BIG = NodeGroup(name="big", max_nodes=2, cpus=32, gpus=8, accelerator_type="H100")
DECODE = PoolConfig(max_actors=1000, num_cpus=2)


def node(name: str, cpus: float, gpus: float = 0, *, head: bool = False, **labels: str) -> dict[str, Any]:
    resources = {"CPU": cpus, "GPU": gpus, "memory": 2.0**36} | ({"node:__internal_head__": 1.0} if head else {})
    keys = {key.replace("_", "-"): value for key, value in labels.items()}
    return {"NodeID": name, "Resources": resources, "Labels": {f"ray.io/{key}": value for key, value in keys.items()}}


def test_decode_keeps_off_groups_with_gpus_and_to_what_the_others_hold() -> None:
    placement = place("decode", DECODE, make_cluster([node("head", 0, head=True)], [CPU, GPU, BIG]))
    assert placement.label_selector == {"ray.io/node-group": "!in(big,gpu)"}
    assert placement.max_actors == 4 * 8


def test_nodes_that_are_there_already_are_told_apart_by_their_ids() -> None:
    cluster = make_cluster([node("a", 16), node("b", 64, 8), node("c", 64, 8)], [])
    placement = place("decode", DECODE, cluster)
    assert (dict(placement.label_selector), placement.max_actors) == ({"ray.io/node-id": "!in(b,c)"}, 8)


def test_a_laptop_a_head_and_a_cluster_of_gpus_alone_take_decode_anywhere() -> None:
    for nodes in ([node("laptop", 6)], [node("one", 6, 1, head=True)], [node("head", 4, head=True), node("b", 64, 8)]):
        placement = place("decode", DECODE, make_cluster(nodes, []))
        assert placement.label_selector == {}
        assert placement.max_actors == sum(int(one["Resources"]["CPU"] // 2) for one in nodes)


def test_any_takes_every_node_and_cpu_refuses_where_there_is_none() -> None:
    cluster = make_cluster([node("a", 16), node("b", 64, 8)], [])
    assert place("decode", PoolConfig(nodes="any", max_actors=1000), cluster).max_actors == 80
    with pytest.raises(UserError, match="decode: nodes is cpu, and no node without GPUs holds a worker"):
        place("decode", PoolConfig(nodes="cpu"), make_cluster([node("b", 64, 8)], []))


def test_an_accelerator_is_asked_for_by_label_and_bounds_the_pool() -> None:
    cluster = make_cluster([node("head", 0, head=True)], [CPU, GPU, BIG])
    pool = PoolConfig(num_gpus=0.5, max_actors=100, accelerator_type="H100")
    placement = place("caption", pool, cluster)
    assert placement.label_selector == {"ray.io/accelerator-type": "H100"}
    assert placement.max_actors == 2 * 8 * 2
    with pytest.raises(UserError, match=r"caption: no node has an accelerator 'A100'; the cluster has H100, L4"):
        place("caption", PoolConfig(num_gpus=1, accelerator_type="A100"), cluster)


def test_a_worker_that_no_node_holds_and_a_pool_that_all_do_not_are_told_with_numbers() -> None:
    cluster = make_cluster([node("a", 16)], [GPU])
    with pytest.raises(UserError, match=r"a worker of caption needs 1 CPUs, 2 GPUs .* has 8 CPUs, 1 GPU"):
        place("caption", PoolConfig(num_gpus=2), cluster)
    with pytest.raises(UserError, match=r"caption needs 3 workers of .* each; the nodes it may take hold 2"):
        place("caption", PoolConfig(num_gpus=1, min_actors=3, max_actors=3), cluster)


def test_a_groups_live_nodes_count_once_and_its_own_labels_are_learnt() -> None:
    live = node("x", 16, node_group="cpu", zone="eu")
    cluster = make_cluster([node("head", 0, head=True), live], [CPU])
    assert cluster.capacity().cpus == 4 * 16
    assert place("decode", PoolConfig(node_labels={"ray.io/zone": "eu"}), cluster).label_selector == {
        "ray.io/zone": "eu"
    }
    with pytest.raises(UserError, match="no node has the labels"):
        place("decode", PoolConfig(node_labels={"ray.io/zone": "us"}), cluster)


BESIDE = Capacity(cpus=0.5, gpus=0, memory_bytes=0)


def test_engines_begin_with_all_that_the_cluster_may_hold_and_decode_on_nodes_of_its_own_too() -> None:
    pools = {"decode": DECODE, "caption": PoolConfig(num_gpus=0.5, max_actors=50)}
    cluster = make_cluster([node("head", 0, head=True)], [CPU, GPU])
    placed = place_all(pools, cluster, beside=BESIDE, most=dict.fromkeys(pools, 1000))
    assert placed["caption"].initial_actors == 4
    assert placed["decode"].initial_actors == 32


def test_decode_beside_engines_begins_small_and_no_pool_with_more_than_it_has_work_for() -> None:
    pools = {"decode": DECODE, "caption": PoolConfig(num_gpus=0.5, max_actors=50, batch_rows=8, calls=2)}
    most = {"decode": 9, "caption": 5}
    placed = place_all(pools, make_cluster([node("a", 32, 8)], []), beside=BESIDE, most=most)
    assert (placed["decode"].initial_actors, placed["decode"].max_actors) == (1, 16)
    assert placed["caption"].initial_actors == 5


@given(
    cpus=st.integers(4, 64),
    gpus=st.integers(1, 8),
    count=st.integers(1, 4),
    shares=st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.6, 1.0]), min_size=1, max_size=4),
    most=st.integers(1, 100),
)
def test_what_pools_begin_with_fits_the_cluster_at_its_largest(
    cpus: int, gpus: int, count: int, shares: list[float], most: int
) -> None:
    cluster = make_cluster([], [NodeGroup(name="n", max_nodes=count, cpus=cpus, gpus=gpus)])
    pools = {
        f"stage-{index}": PoolConfig(num_gpus=share, num_cpus=0.5, max_actors=100) for index, share in enumerate(shares)
    }
    placed = place_all(pools, cluster, beside=BESIDE, most=dict.fromkeys(pools, most))
    sizes = {name: placement.initial_actors for name, placement in placed.items()}
    assert all(1 <= sizes[name] <= min(most, placed[name].max_actors) <= 100 for name in pools)
    if any(size > 1 for size in sizes.values()):
        used = [(sizes[name], one_worker(pool)) for name, pool in pools.items()]
        assert sum(number * worker.cpus for number, worker in used) + BESIDE.cpus <= cpus * count
        assert sum(number * worker.gpus for number, worker in used) <= gpus * count + 1e-9
        type_ = NodeType(name="n", cpus=cpus, gpus=gpus)
        engines = [(Need(cpus=0.5, gpus=pool.num_gpus), sizes[name]) for name, pool in pools.items() if pool.num_gpus]
        assert fits_in_order(engines, {type_: count})


def test_engines_that_only_add_up_are_not_asked_for() -> None:
    """Three workers of 0.6 on two GPUs would leave one waiting for ever, and with it its whole stage."""
    pools = {name: PoolConfig(num_gpus=0.6, max_actors=4) for name in ("caption", "transcribe")}
    placed = place_all(pools, make_cluster([node("a", 32, 2)], []), beside=BESIDE, most=dict.fromkeys(pools, 100))
    assert {name: placement.initial_actors for name, placement in placed.items()} == {"caption": 1, "transcribe": 1}
