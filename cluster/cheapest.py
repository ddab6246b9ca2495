"""The cheapest cluster that meets a deadline, out of all mixes of the node types of a price table: pure, no Ray."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cluster.loads import Cluster, StageLoad
from cluster.packing import Need, NodeType, room
from cluster.sizing import Sizing, size_pools, start_seconds
from records.errors import UserError

MOST_CLUSTERS = 2_000_000
"""Clusters that are looked at. A table that allows more is mixed of fewer types at a time, but always of two."""
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


def cheapest(offers: Sequence[Offer], work: Work) -> Sizing:
    """The cluster on which the work costs least and is done in time.

    It is the cheapest of all mixes of up to `types_at_once` node types, unless `MOST_SIZED` of them had to be sized,
    whose bound was lower than the cost of the best of them: then it is that. Where no such mix is in time, all types
    together are taken, less what is not needed; that need not be the cheapest.

    Raises:
        UserError: No cluster of these nodes holds every stage, or none is fast enough.
    """
    best: tuple[float, Sizing] | None = None
    for candidate in _candidates(offers, work):
        if best is not None and candidate.least_cost >= best[0]:
            break
        counts = dict(zip(candidate.offers, candidate.counts, strict=True))
        sizing = _sized(counts, work)
        if sizing is not None and sizing.seconds(work.items) <= work.deadline_seconds:
            cost = sizing.seconds(work.items) / 3600 * _price(counts)
            if best is None or cost < best[0]:
                best = (cost, sizing)
    return best[1] if best is not None else _of_all(offers, work)


def types_at_once(offers: Sequence[Offer]) -> int:
    """Of how many node types clusters are mixed: of as many as make no more than `MOST_CLUSTERS`."""
    clusters, types = 0, 0
    for types in range(1, len(offers) + 1):
        clusters += sum(math.prod(offer.most for offer in mixed) for mixed in itertools.combinations(offers, types))
        if clusters > MOST_CLUSTERS and types > 2:
            return types - 1
    return types


def _candidates(offers: Sequence[Offer], work: Work) -> list[_Candidate]:
    """The clusters that may be in time, those first that may cost least, `MOST_SIZED` at most."""
    sizes = range(1, types_at_once(offers) + 1)
    found = [one for size in sizes for mixed in itertools.combinations(offers, size) for one in _mixes(mixed, work)]
    return sorted(found, key=lambda one: (one.least_cost, one.least_seconds))[:MOST_SIZED]


def _mixes(offers: Sequence[Offer], work: Work) -> Iterator[_Candidate]:
    """Clusters with at least one node of each of these types, with the least that each can take and cost."""
    counts = np.indices([offer.most for offer in offers]).reshape(len(offers), -1).T + 1
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
        hours = sizing.seconds(work.items) / 3600
        named = ", ".join(f"{offer.most} {offer.type.name}" for offer in offers)
        raise UserError(
            f"no cluster meets the deadline of {work.deadline_seconds / 3600:.2f} h: "
            f"all nodes that the prices allow ({named}) take {hours:.2f} h"
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
