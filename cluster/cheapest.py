"""The cheapest cluster that meets a deadline, out of all mixes of the node types of a price table: pure, no Ray."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cluster.loads import Cluster, StageLoad
from cluster.packing import Need, NodeType, room
from cluster.sizing import Sizing, size_pools, start_seconds
from records.errors import UserError

MOST_CLUSTERS = 2_000_000
"""Clusters that are looked at at a time. Of a table that allows more, numbers of nodes are left out, each some per cent
larger than the one before; then those around the best are looked at."""
LEAST_STEPS = 6
"""Numbers of nodes of a type that are looked at at least. Where even so there are too many clusters, they are mixed of
fewer types at a time, but always of two."""
MOST_SIZED = 1_000
"""Of those as many as are sized, the cheapest first by a bound: some hundredths of a second each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Nodes that one may have."""

    type: NodeType
    price_per_hour: float
    most: int
    """Nodes of this type at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done, and by when."""

    loads: Sequence[StageLoad]
    """Stages that must run, upstream first."""
    items: float
    deadline_seconds: float
    reserved: tuple[Need, ...] = field(default=())
    """What runs beside the pools."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    offers: Sequence[Offer]
    counts: Sequence[int]
    """Nodes of each offer."""
    least_seconds: float
    least_cost: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Which clusters of a price table are looked at first."""

    types: int
    """Node types that are mixed at a time."""
    steps: int
    """Numbers of nodes of each type."""
    is_whole: bool
    """Whether that is all that the table allows."""


def cheapest(offers: Sequence[Offer], work: Work) -> Sizing:
    """The cluster on which the work costs least and is done in time.

    It is the cheapest of all that the offers allow, unless that are more than `MOST_CLUSTERS`, of which not each number
    of nodes is looked at (`grid_of`), or `MOST_SIZED` of them had to be sized, whose bound was lower than the cost of
    the best of them: then it is that. Where none of those is in time, all types together are taken, less what is not
    needed; that need not be the cheapest.

    Raises:
        UserError: No cluster of these nodes holds every stage, or none is fast enough.
    """
    grid = grid_of(offers)
    counts = {offer: _spread(1, offer.most, grid.steps) for offer in offers}
    mixes = [mix for size in range(1, grid.types + 1) for mix in itertools.combinations(offers, size)]
    best = _best(mixes, counts, work)
    if best is None:
        return _of_all(offers, work)
    while (closer := _around(best, counts)) != counts:
        counts = closer
        better = _best([list(counts)], counts, work)
        assert better is not None, "the best so far is among them"
        best = better
    return best


def spoken(seconds: float) -> str:
    """A time for a person: `1.50 h`, or `90 s` where hours would say nothing."""
    return f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds:.0f} s"


def grid_of(offers: Sequence[Offer]) -> Grid:
    """All types with all numbers of nodes, or as many as make no more than `MOST_CLUSTERS`; numbers go first."""
    types, most = len(offers), max(offer.most for offer in offers)
    while types > 2 and _count(offers, types, min(LEAST_STEPS, most)) > MOST_CLUSTERS:
        types -= 1
    steps = most
    while steps > LEAST_STEPS and _count(offers, types, steps) > MOST_CLUSTERS:
        steps = max(LEAST_STEPS, steps * 9 // 10)
    return Grid(types, steps, is_whole=types == len(offers) and steps >= most)


def left_out(offers: Sequence[Offer]) -> str | None:
    """One line for a person where not every cluster that the offers allow is looked at."""
    grid = grid_of(offers)
    if grid.is_whole:
        return None
    types = f", of {grid.types} node types at a time" if grid.types < len(offers) else ""
    return (
        f"the prices allow more clusters than were looked at: {grid.steps} numbers of each node type{types}, then "
        "those around the best; another may cost a little less"
    )


def _count(offers: Sequence[Offer], types: int, steps: int) -> int:
    """Clusters of up to so many types with up to so many numbers of nodes of each."""
    of_size = [1] + [0] * types
    for offer in offers:
        for size in range(types, 0, -1):
            of_size[size] += of_size[size - 1] * min(offer.most, steps)
    return sum(of_size[1:])


def _spread(low: int, high: int, steps: int) -> list[int]:
    """Whole numbers from one to another, or so many of them, each by the same share larger than the one before."""
    if high - low < steps:
        return list(range(low, high + 1))
    spread: list[int] = np.unique(np.round(np.geomspace(low, high, steps)).astype(np.int64)).tolist()
    return spread


def _around(best: Sizing, counts: Mapping[Offer, Sequence[int]]) -> dict[Offer, list[int]]:
    """Of the node types of a cluster the numbers between those that were looked at before and after its own."""
    used = {offer: best.cluster.nodes[offer.type] for offer in counts if offer.type in best.cluster.nodes}
    steps = int(MOST_CLUSTERS ** (1 / len(used)))
    closer: dict[Offer, list[int]] = {}
    for offer, count in used.items():
        looked_at = counts[offer]
        at = looked_at.index(count)
        closer[offer] = _spread(looked_at[max(at - 1, 0)], looked_at[min(at + 1, len(looked_at) - 1)], max(steps, 5))
    return closer


def _best(mixes: Sequence[Sequence[Offer]], counts: Mapping[Offer, Sequence[int]], work: Work) -> Sizing | None:
    """The cheapest that is in time; those that may cost least are sized first, `MOST_SIZED` at most."""
    found = [one for mix in mixes for one in _mixes(mix, [counts[offer] for offer in mix], work)]
    best: tuple[float, Sizing] | None = None
    for candidate in sorted(found, key=lambda one: (one.least_cost, one.least_seconds))[:MOST_SIZED]:
        if best is not None and candidate.least_cost >= best[0]:
            break
        nodes = dict(zip(candidate.offers, candidate.counts, strict=True))
        sizing = _sized(nodes, work)
        if sizing is not None and sizing.seconds(work.items) <= work.deadline_seconds:
            cost = sizing.seconds(work.items) / 3600 * _price(nodes)
            if best is None or cost < best[0]:
                best = (cost, sizing)
    return best[1] if best is not None else None


def _mixes(offers: Sequence[Offer], numbers: Sequence[Sequence[int]], work: Work) -> Iterator[_Candidate]:
    """Clusters with some node of each of these types, with the least that each can take and cost.

    Args:
        numbers: Of nodes of each type.
    """
    counts = np.stack([axis.ravel() for axis in np.meshgrid(*numbers, indexing="ij")], axis=1)
    seconds = start_seconds(work.loads) + work.items * _least_per_item(offers, counts, work.loads)
    cost = seconds / 3600 * (counts @ np.array([offer.price_per_hour for offer in offers]))
    order = np.lexsort((seconds, cost))
    for index in order[seconds[order] <= work.deadline_seconds][:MOST_SIZED]:
        yield _Candidate(offers, counts[index].tolist(), float(seconds[index]), float(cost[index]))


def _least_per_item(
    offers: Sequence[Offer], counts: npt.NDArray[np.int64], loads: Sequence[StageLoad]
) -> npt.NDArray[np.float64]:
    """Seconds an item that no sizes on these clusters go below, in whatever phases; inf where a stage has no room.

    A rate takes so many cores, GPUs, slots and bytes, and workers of each stage, as `cluster.sizing` counts them: none
    is there more often than all nodes have it, and over all phases each stage takes its part once.
    """
    least = np.zeros(len(counts))
    for supply, demand in _supplies([offer.type for offer in offers], loads):
        there = counts @ np.array(supply, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            least = np.maximum(least, np.where(there > 0, demand / there, np.inf))
    return least


def _supplies(types: Sequence[NodeType], loads: Sequence[StageLoad]) -> Iterator[tuple[list[float], float]]:
    """What a node of each type has of something, and what an item takes of it in seconds."""
    yield [one.cpus for one in types], sum(load.cpu_seconds for load in loads)
    yield [one.cpus for one in types], sum(load.seconds * load.need.cpus for load in loads)
    if any(load.need.memory_bytes for load in loads):
        yield [one.memory_bytes for one in types], sum(load.seconds * load.need.memory_bytes for load in loads)
    for wanted in {load.need.accelerator for load in loads if load.need.gpus}:
        gpus = [one.gpus if wanted is None or one.accelerator in (None, wanted) else 0 for one in types]
        taking = [load for load in loads if load.need.gpus and wanted in (None, load.need.accelerator)]
        yield [float(count) for count in gpus], sum(load.gpu_seconds for load in taking)
    for load in loads:
        yield [room(load.need, one) for one in types], load.seconds


def _of_all(offers: Sequence[Offer], work: Work) -> Sizing:
    """All node types at once, with as few of each as will do, the dearest first."""
    counts = {offer: offer.most for offer in offers}
    sizing = size_pools(work.loads, _cluster(counts, work), work.items)
    if sizing.seconds(work.items) > work.deadline_seconds:
        named = ", ".join(f"{offer.most} {offer.type.name}" for offer in offers)
        raise UserError(
            f"no cluster meets the deadline of {spoken(work.deadline_seconds)}: "
            f"all nodes that the prices allow ({named}) take {spoken(sizing.seconds(work.items))}"
        )
    for offer in sorted(offers, key=lambda one: one.price_per_hour, reverse=True):
        low, high = 0, offer.most  # more nodes are never slower
        while low < high:
            middle = (low + high) // 2
            fewer = _sized({**counts, offer: middle}, work)
            if fewer is not None and fewer.seconds(work.items) <= work.deadline_seconds:
                sizing, high = fewer, middle
            else:
                low = middle + 1
        counts[offer] = high
    return sizing


def _sized(counts: Mapping[Offer, int], work: Work) -> Sizing | None:
    """The sizes on a cluster; None where a stage does not fit."""
    try:
        return size_pools(work.loads, _cluster(counts, work), work.items)
    except UserError:
        return None


def _cluster(counts: Mapping[Offer, int], work: Work) -> Cluster:
    nodes = {offer.type: count for offer, count in counts.items() if count}
    return Cluster(nodes=nodes, reserved=work.reserved)


def _price(counts: Mapping[Offer, int]) -> float:
    return sum(offer.price_per_hour * count for offer, count in counts.items())
