"""The cheapest cluster costs no more than any other that meets the deadline, and is found wherever there is one."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.cheapest import Grid, Offer, Work, cheapest, grid_of, left_out
from cluster.loads import Cluster, StageLoad
from cluster.packing import Need, NodeType
from cluster.sizing import Sizing, size_pools
from records.errors import UserError
from tests.cluster.clusters import GIB, node_types, stage_loads

ACCELERATORS = [
    Offer(type=NodeType(name="cpu", cpus=64), price_per_hour=3.0, most=16),
    Offer(type=NodeType(name="l4", cpus=4, gpus=1, accelerator="L4"), price_per_hour=1.0, most=16),
    Offer(type=NodeType(name="h100", cpus=24, gpus=1, accelerator="H100"), price_per_hour=6.0, most=16),
    Offer(type=NodeType(name="large", cpus=96, gpus=4, accelerator="H100"), price_per_hour=26.0, most=4),
]
MIXED_LOADS = [
    StageLoad(name="decode", need=Need(cpus=1), seconds=30.0, cpu_seconds=30.0),
    StageLoad(name="caption", need=Need(cpus=1, gpus=1, accelerator="H100"), seconds=0.5, needs_decode=True),
    StageLoad(name="embed", need=Need(cpus=1, gpus=0.5, accelerator="L4"), seconds=0.2),
]
MIXED = Work(loads=MIXED_LOADS, items=1e5, deadline_seconds=8 * 3600)
"""Work of two accelerators and of many cores."""


@st.composite
def price_lists(draw: st.DrawFn) -> list[Offer]:
    return [
        Offer(
            type=draw(node_types(f"type-{number}")),
            price_per_hour=draw(st.sampled_from((0.5, 1.0, 3.0))),
            most=draw(st.integers(1, 2)),
        )
        for number in range(draw(st.integers(1, 3)))
    ]


def every_cost(offers: Sequence[Offer], work: Work) -> list[float]:
    """The cost of each cluster that meets the deadline."""
    found: list[float] = []
    for counts in itertools.product(*(range(offer.most + 1) for offer in offers)):
        nodes = {offer.type: count for offer, count in zip(offers, counts, strict=True) if count}
        try:
            sizing = size_pools(work.loads, Cluster(nodes=nodes, reserved=work.reserved), work.items)
        except UserError:
            continue
        seconds = sizing.seconds(work.items)
        if seconds <= work.deadline_seconds:
            found.append(seconds / 3600 * price(offers, sizing))
    return found


def price(offers: Sequence[Offer], sizing: Sizing) -> float:
    return sum(offer.price_per_hour * sizing.cluster.nodes.get(offer.type, 0) for offer in offers)


@settings(max_examples=100, deadline=None)
@given(offers=price_lists(), loads=stage_loads(), deadline=st.sampled_from((30.0, 500.0, 20_000.0)))
def test_none_that_meets_the_deadline_is_cheaper(offers: list[Offer], loads: list[StageLoad], deadline: float) -> None:
    work = Work(loads=loads, items=200.0, deadline_seconds=deadline)
    possible = every_cost(offers, work)
    if not possible:
        with pytest.raises(UserError):
            cheapest(offers, work)
        return
    chosen = cheapest(offers, work)
    assert chosen.seconds(work.items) <= deadline
    assert chosen.seconds(work.items) / 3600 * price(offers, chosen) <= min(possible) * (1 + 1e-9)


def test_two_accelerators_and_nodes_without_any_are_mixed_where_that_is_cheapest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = cheapest(ACCELERATORS, MIXED)
    assert {type_.name for type_ in chosen.cluster.nodes} == {"cpu", "l4", "h100"}
    monkeypatch.setattr("cluster.cheapest.MOST_CLUSTERS", 1)
    of_two = cheapest(ACCELERATORS, MIXED)
    assert len(of_two.cluster.nodes) == 2
    dearer = of_two.seconds(1e5) * price(ACCELERATORS, of_two) / (chosen.seconds(1e5) * price(ACCELERATORS, chosen))
    assert dearer > 1.2


@pytest.mark.parametrize("most_clusters", [2_000_000, 1])
def test_three_node_types_are_mixed_where_two_are_too_slow(most_clusters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.cheapest.MOST_CLUSTERS", most_clusters)
    offers = [
        Offer(type=NodeType(name=name, cpus=2, memory_bytes=GIB), price_per_hour=cost, most=1)
        for name, cost in (("a", 1.0), ("b", 2.0), ("c", 3.0))
    ]
    work = Work(loads=[StageLoad(name="decode", need=Need(cpus=1), seconds=1.0)], items=600.0, deadline_seconds=100.0)
    assert cheapest(offers, work).cluster.nodes == {offer.type: 1 for offer in offers}


@pytest.mark.parametrize(
    ("most", "types", "steps", "words"),
    [
        ((16,) * 3, 3, 16, None),
        ((8,) * 6, 6, 8, None),
        ((1000,) * 3, 3, 117, r"117 numbers of each node type, then"),
        ((16,) * 7, 7, 6, r"6 numbers of each node type, then"),
        ((16,) * 12, 4, 7, r"7 numbers of each node type, of 4 node types at a time"),
    ],
)
def test_of_a_long_table_numbers_go_first_and_then_types(
    most: tuple[int, ...], types: int, steps: int, words: str | None
) -> None:
    nodes = [NodeType(name=str(number), cpus=1) for number in range(len(most))]
    offers = [Offer(type=type_, price_per_hour=1.0, most=count) for type_, count in zip(nodes, most, strict=True)]
    grid = grid_of(offers)
    assert (grid.types, grid.steps, grid.is_whole) == (types, steps, words is None)
    said = left_out(offers)
    assert said is None if words is None else re.search(words, str(said)), said


def test_where_numbers_are_left_out_those_around_the_best_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    best = cheapest(ACCELERATORS, MIXED)
    monkeypatch.setattr("cluster.cheapest.MOST_CLUSTERS", 3000)
    assert grid_of(ACCELERATORS) == Grid(types=4, steps=7, is_whole=False)
    found = cheapest(ACCELERATORS, MIXED)
    cost, least = (one.seconds(1e5) * price(ACCELERATORS, one) for one in (found, best))
    assert cost <= least * 1.01


def test_a_deadline_that_nothing_meets_says_what_all_nodes_take() -> None:
    offers = [Offer(type=NodeType(name="a", cpus=2), price_per_hour=1.0, most=3)]
    work = Work(loads=[StageLoad(name="decode", need=Need(cpus=1), seconds=1.0)], items=6 * 3600, deadline_seconds=1800)
    with pytest.raises(UserError, match=r"no cluster meets the deadline of 3 s: all nodes .* take 1.00 h"):
        cheapest(offers, replace(work, deadline_seconds=3))
    with pytest.raises(UserError, match=r"no cluster meets the deadline of 0.50 h: all nodes .*3 a.* take 1.00 h"):
        cheapest(offers, work)


def test_a_long_price_list_is_searched_in_seconds() -> None:
    gpus = [
        Offer(
            type=NodeType(name=f"gpu-{count}", cpus=24 * count, gpus=count, memory_bytes=200 * count * GIB),
            price_per_hour=3.0 * count + 0.1,
            most=8,
        )
        for count in (1, 2, 4, 8)
    ]
    cpus = [
        Offer(
            type=NodeType(name=f"cpu-{count}", cpus=count, memory_bytes=4 * count * GIB),
            price_per_hour=0.05 * count,
            most=8,
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
