"""How many workers nodes hold, and which labels they meet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.capacity import Capacity
from cluster.nodes import NodeGroup, NodeKind


def kind(cpus: float = 8, gpus: float = 0, count: int = 1, **labels: str) -> NodeKind:
    each = Capacity(cpus=cpus, gpus=gpus, memory_bytes=2**30)
    return NodeKind(name="n", count=count, each=each, labels=labels)


def worker(cpus: float = 1, gpus: float = 0, memory_bytes: float = 0) -> Capacity:
    return Capacity(cpus=cpus, gpus=gpus, memory_bytes=memory_bytes)


@pytest.mark.parametrize(
    ("node", "one", "held"),
    [
        (kind(cpus=8), worker(cpus=1), 8),
        (kind(cpus=8), worker(cpus=3), 2),
        (kind(cpus=8, count=3), worker(cpus=3), 6),
        (kind(cpus=8, gpus=2), worker(cpus=1, gpus=0.4), 4),
        (kind(cpus=64, gpus=2), worker(cpus=1, gpus=0.05), 40),
        (kind(cpus=2, gpus=4), worker(cpus=1, gpus=0.5), 2),
        (kind(cpus=8, gpus=4), worker(cpus=1, gpus=2), 2),
        (kind(cpus=8, gpus=1, count=4), worker(cpus=1, gpus=2), 0),
        (kind(cpus=8), worker(cpus=1, memory_bytes=2**29), 2),
        (kind(cpus=8), worker(cpus=1, gpus=0.1), 0),
    ],
)
def test_workers_on_nodes(node: NodeKind, one: Capacity, held: int) -> None:
    assert node.holds(one) == held


@given(
    node=st.tuples(st.integers(0, 64), st.integers(0, 8), st.integers(1, 5)),
    one=st.tuples(st.sampled_from([0.25, 0.5, 1.0, 3.0]), st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 2.0])),
)
def test_what_nodes_hold_fits_them_and_one_more_a_node_does_not(
    node: tuple[int, int, int], one: tuple[float, float]
) -> None:
    (cpus, gpus, count), (needs_cpus, needs_gpus) = node, one
    held = kind(cpus=cpus, gpus=gpus, count=count).holds(worker(cpus=needs_cpus, gpus=needs_gpus))
    each = held // count
    assert each * count == held
    assert each * needs_cpus <= cpus + 1e-6
    assert each * needs_gpus <= gpus + 1e-6
    more = each + 1
    shares = gpus * int(1 / needs_gpus + 1e-9) if 0 < needs_gpus < 1 else more
    assert more * needs_cpus > cpus or more * needs_gpus > gpus or more > shares


@pytest.mark.parametrize(
    ("wanted", "met"),
    [("eu", True), ("us", False), ("!us", True), ("!eu", False), ("in(eu, us)", True), ("!in(us,asia)", True)],
)
def test_selectors_are_met_as_ray_reads_them(wanted: str, met: bool) -> None:
    assert kind(zone="eu").matches({"zone": wanted}) is met


def test_a_label_that_is_not_there_meets_only_negations_and_a_group_may_have_more_labels() -> None:
    assert not kind().matches({"zone": "eu"})
    assert kind().matches({"zone": "!eu"})
    group = NodeGroup(name="gpu", max_nodes=4, cpus=8, gpus=1).kind()
    assert group.matches({"zone": "eu"})
    assert not group.matches({"ray.io/node-group": "!in(gpu)"})
