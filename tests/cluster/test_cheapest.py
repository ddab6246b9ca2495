"""The cheapest cluster costs no more than any other that meets the deadline, and is found wherever there is one."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.cheapest import Offer, Work, cheapest
from cluster.loads import Cluster, StageLoad
from cluster.packing import Need, NodeType
from cluster.sizing import Sizing, size_pools
from records.errors import UserError
from tests.cluster.clusters import GIB, node_types, stage_loads


@st.composite
def price_lists(draw: st.DrawFn) -> list[Offer]:
    return [
        Offer(
            type=draw(node_types(f"type-{number}")),
            price_per_hour=draw(st.sampled_from((0.5, 1.0, 3.0))),
            most=draw(st.integers(1, 3)),
        )
        for number in range(draw(st.integers(1, 3)))
    ]


def every_cluster(offers: Sequence[Offer], work: Work) -> list[tuple[float, int, Sizing]]:
    """Cost, number of node types and sizing of each cluster that meets the deadline."""
    found: list[tuple[float, int, Sizing]] = []
    for counts in itertools.product(*(range(offer.most + 1) for offer in offers)):
        nodes = {offer.type: count for offer, count in zip(offers, counts, strict=True) if count}
        try:
            sizing = size_pools(work.loads, Cluster(nodes=nodes, reserved=work.reserved), work.items)
        except UserError:
            continue
        seconds = sizing.seconds(work.items)
        if seconds <= work.deadline_seconds:
            found.append((seconds / 3600 * price(offers, sizing), len(nodes), sizing))
    return found


def price(offers: Sequence[Offer], sizing: Sizing) -> float:
    return sum(offer.price_per_hour * sizing.cluster.nodes.get(offer.type, 0) for offer in offers)


@settings(max_examples=20, deadline=None)
@given(offers=price_lists(), loads=stage_loads(), deadline=st.sampled_from((30.0, 500.0, 20_000.0)))
def test_none_that_meets_the_deadline_is_cheaper(offers: list[Offer], loads: list[StageLoad], deadline: float) -> None:
    work = Work(loads=loads, items=200.0, deadline_seconds=deadline)
    possible = every_cluster(offers, work)
    if not possible:
        with pytest.raises(UserError):
            cheapest(offers, work)
        return
    chosen = cheapest(offers, work)
    assert chosen.seconds(work.items) <= deadline
    cost = chosen.seconds(work.items) / 3600 * price(offers, chosen)
    rivals = [one for one, types, _ in possible if types <= 2]
    assert not rivals or cost <= min(rivals) * (1 + 1e-9)


def test_three_node_types_are_mixed_where_two_are_too_slow() -> None:
    offers = [
        Offer(type=NodeType(name=name, cpus=2, memory_bytes=GIB), price_per_hour=cost, most=1)
        for name, cost in (("a", 1.0), ("b", 2.0), ("c", 3.0))
    ]
    work = Work(loads=[StageLoad(name="decode", need=Need(cpus=1), seconds=1.0)], items=600.0, deadline_seconds=100.0)
    assert cheapest(offers, work).cluster.nodes == {offer.type: 1 for offer in offers}


def test_a_deadline_that_nothing_meets_says_what_all_nodes_take() -> None:
    offers = [Offer(type=NodeType(name="a", cpus=2), price_per_hour=1.0, most=3)]
    work = Work(loads=[StageLoad(name="decode", need=Need(cpus=1), seconds=1.0)], items=6 * 3600, deadline_seconds=1800)
    with pytest.raises(UserError, match=r"no cluster meets the deadline of 0.50 h: all nodes .*3 a.* take 1.00 h"):
        cheapest(offers, work)


def test_a_long_price_list_is_searched_in_seconds() -> None:
    gpus = [
        Offer(
            type=NodeType(name=f"gpu-{count}", cpus=24 * count, gpus=count, memory_bytes=200 * count * GIB),
            price_per_hour=3.0 * count + 0.1,
            most=16,
        )
        for count in (1, 2, 4, 8)
    ]
    cpus = [
        Offer(
            type=NodeType(name=f"cpu-{count}", cpus=count, memory_bytes=4 * count * GIB),
            price_per_hour=0.05 * count,
            most=16,
        )
        for count in (16, 64)
    ]
    loads = [
        StageLoad(name="decode", need=Need(cpus=1), seconds=1.5, cpu_seconds=1.6, start_seconds=5),
        StageLoad(name="caption", need=Need(cpus=1, gpus=0.5), seconds=0.3, start_seconds=90, needs_decode=True),
        StageLoad(name="transcribe", need=Need(cpus=1, gpus=0.1), seconds=0.1, start_seconds=20, needs_decode=True),
        StageLoad(name="embed", need=Need(cpus=1, gpus=0.05), seconds=0.01, start_seconds=10),
    ]
    work = Work(loads=loads, items=1e6, deadline_seconds=6 * 3600)
    chosen = cheapest([*gpus, *cpus], work)
    assert chosen.seconds(1e6) <= 6 * 3600
