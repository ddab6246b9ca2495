"""Where pools go: off the GPU nodes where others hold them, to the GPU they name, and never more than nodes hold."""

import pytest

from actors.stage import PoolConfig
from cluster.nodes import NodeGroup
from pipeline.cluster_view import make_cluster
from pipeline.placement import place
from records.errors import UserError

CPU = NodeGroup(name="cpu", max_nodes=4, cpus=16)
GPU = NodeGroup(name="gpu", max_nodes=2, cpus=8, gpus=1, accelerator_type="L4")
BIG = NodeGroup(name="big", max_nodes=2, cpus=32, gpus=8, accelerator_type="H100")
DECODE = PoolConfig(max_actors=1000, num_cpus=2)


def node(name: str, cpus: float, gpus: float = 0, *, head: bool = False, **labels: str) -> dict[str, object]:
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
        assert placement.max_actors == sum(int(one["Resources"]["CPU"] // 2) for one in nodes)  # type: ignore[index]


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
