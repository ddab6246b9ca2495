"""Packing equals trying everything, and never turns from yes to no where a node gains something."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.packing import Need, Nodes, NodeType, engines_fit, fits, fits_in_order
from tests.cluster.clusters import GIB, fits_by_trying, fits_one_by_one, needs, node_sets

WORKERS = st.lists(st.tuples(needs(), st.integers(0, 3)), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None)
@given(workers=WORKERS, nodes=node_sets())
def test_it_says_what_trying_everything_says(workers: list[tuple[Need, int]], nodes: Nodes) -> None:
    assert fits(workers, nodes) == fits_by_trying(workers, nodes)


def test_the_paper_recipe_fills_one_gpu_exactly() -> None:
    shares = [(Need(gpus=share), 1) for share in (0.52, 0.32, 0.08, 0.04, 0.04)]
    gpu = NodeType(name="gpu", cpus=8, gpus=1)
    assert fits(shares, {gpu: 1})
    assert not fits([*shares, (Need(gpus=0.04), 1)], {gpu: 1})


def test_shares_do_not_span_gpus() -> None:
    node = NodeType(name="gpu", cpus=8, gpus=2)
    assert fits([(Need(gpus=0.6), 2)], {node: 1})
    assert not fits([(Need(gpus=0.6), 3)], {node: 1})  # 1.8 of 2


def test_shares_of_several_kinds_keep_to_whole_gpus() -> None:
    node = NodeType(name="gpu", cpus=8, gpus=2)
    assert not fits([(Need(gpus=0.7), 2), (Need(gpus=0.4), 1)], {node: 1})  # 1.8 of 2, each kind alone has room
    assert fits([(Need(gpus=0.7), 2), (Need(gpus=0.3), 2)], {node: 1})
    assert not fits([(Need(gpus=1), 1), (Need(gpus=0.6), 1), (Need(gpus=0.5), 1)], {node: 1})
    assert not fits([(Need(gpus=1), 1), (Need(gpus=0.6), 3)], {replace(node, gpus=3): 1})  # 2.8 of 3
    assert fits([(Need(gpus=1), 1), (Need(gpus=0.5), 2)], {node: 1})


def test_first_fit_is_not_the_last_word() -> None:
    """Largest first puts both fours on one node and finds no room for the last three; 4 + 3 + 3 twice has it."""
    nodes = {NodeType(name="a", cpus=10): 2}
    assert fits([(Need(cpus=4), 2), (Need(cpus=3), 4)], nodes)
    assert not fits([(Need(cpus=4), 2), (Need(cpus=3), 5)], nodes)


@pytest.mark.parametrize(
    ("need", "node", "holds"),
    [
        (Need(gpus=1, accelerator="H100"), NodeType(name="n", cpus=8, gpus=1, accelerator="H100"), True),
        (Need(gpus=1, accelerator="H100"), NodeType(name="n", cpus=8, gpus=1, accelerator="L4"), False),
        (Need(gpus=1, accelerator="H100"), NodeType(name="n", cpus=8, gpus=1), True),
        (Need(gpus=1), NodeType(name="n", cpus=8, gpus=1, accelerator="L4"), True),
        (Need(cpus=1, accelerator="H100"), NodeType(name="n", cpus=8), True),
        (Need(memory_bytes=2 * GIB), NodeType(name="n", cpus=8, memory_bytes=GIB), False),
    ],
)
def test_a_worker_takes_the_gpu_it_was_measured_on(need: Need, node: NodeType, holds: bool) -> None:
    assert node.holds(need) is holds
    assert fits([(need, 1)], {node: 1}) is holds


@settings(max_examples=150, deadline=None)
@given(workers=WORKERS, nodes=node_sets(), data=st.data())
def test_more_of_anything_never_fits_less(workers: list[tuple[Need, int]], nodes: Nodes, data: st.DataObject) -> None:
    if not fits(workers, nodes):
        return
    type_ = data.draw(st.sampled_from(list(nodes)))
    more = {one: count + (one == type_) for one, count in nodes.items()}
    assert fits(workers, more)
    for larger in (
        replace(type_, cpus=type_.cpus + 1),
        replace(type_, gpus=type_.gpus + 1),
        replace(type_, memory_bytes=type_.memory_bytes + GIB),
    ):
        assert fits(workers, {(larger if one == type_ else one): count for one, count in nodes.items()})


def test_wrong_needs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"not 1\.5"):
        Need(gpus=1.5)
    with pytest.raises(ValueError, match="negative"):
        Need(cpus=-1)


@settings(max_examples=200, deadline=None)
@given(workers=WORKERS, nodes=node_sets())
def test_what_finds_places_in_order_fits(workers: list[tuple[Need, int]], nodes: Nodes) -> None:
    assert not fits_in_order(workers, nodes) or fits_by_trying(workers, nodes)


@settings(max_examples=200, deadline=None)
@given(workers=WORKERS, nodes=node_sets())
def test_whole_kinds_at_once_find_the_places_of_their_workers_one_by_one(
    workers: list[tuple[Need, int]], nodes: Nodes
) -> None:
    assert fits_in_order(workers, nodes) == fits_one_by_one(workers, nodes)


def test_engines_are_packed_on_the_nodes_that_have_gpus_and_others_are_left_out() -> None:
    cpu, gpu = NodeType(name="cpu", cpus=64), NodeType(name="gpu", cpus=4, gpus=1)
    assert engines_fit([(Need(cpus=2), 40), (Need(cpus=4, gpus=1), 2)], {cpu: 1, gpu: 2})
    assert not engines_fit([(Need(cpus=4, gpus=1), 3)], {cpu: 1, gpu: 2})


def test_a_worker_takes_the_fullest_gpu_and_is_not_moved_for_a_later_one() -> None:
    """As Ray 2.60 does: two of 0.4 share a GPU, so that of two of 0.6 one finds none, though each fits beside one."""
    small, large = (Need(gpus=0.4), 2), (Need(gpus=0.6), 2)
    for nodes in ({NodeType(name="two", cpus=8, gpus=2): 1}, {NodeType(name="one", cpus=8, gpus=1): 2}):
        assert fits([small, large], nodes)
        assert not fits_in_order([small, large], nodes)
        assert fits_in_order([large, small], nodes)


def test_whole_gpus_cores_and_memory_count_in_order_too() -> None:
    node = NodeType(name="gpu", cpus=4, gpus=2, memory_bytes=8 * GIB)
    assert fits_in_order([(Need(gpus=1), 1), (Need(gpus=0.5), 2)], {node: 1})
    assert not fits_in_order([(Need(gpus=0.5), 1), (Need(gpus=2), 1)], {node: 1})
    assert not fits_in_order([(Need(gpus=0.1, cpus=1), 5)], {node: 1})
    assert not fits_in_order([(Need(gpus=0.1, memory_bytes=5 * GIB), 2)], {node: 1})
