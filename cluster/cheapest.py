"""The cheapest cluster of one or two node types that meets a deadline, out of a price table: pure, no Ray."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.loads import Cluster, StageLoad
from cluster.packing import Need, NodeType
from cluster.sizing import Sizing, least_seconds, size_pools
from records.errors import UserError


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    counts: Mapping[Offer, int]
    cost: float
    """For a candidate that is not sized yet, less than it can really cost."""
    seconds: float

    def __lt__(self, other: "_Candidate") -> bool:
        return (self.cost, self.seconds) < (other.cost, other.seconds)


def cheapest(offers: Sequence[Offer], work: Work) -> Sizing:
    """The cluster of one or two node types on which the work costs least and is done in time.

    Every such cluster is looked at, cheapest first by a bound that none can undercut. One of three types or more may be
    cheaper, as two accelerators beside nodes without: it is not looked at unless none of one or two is fast enough.
    Then all types together are taken, less what is not needed; that need not be the cheapest.

    Raises:
        UserError: No cluster of these nodes holds every stage, or none is fast enough.
    """
    bounded = sorted(_bounds(_pairs(offers), work))
    best: tuple[float, Sizing] | None = None
    for candidate in bounded:
        if best is not None and candidate.cost >= best[0]:
            break
        sizing = _sized(candidate.counts, work)
        if sizing is not None and sizing.seconds(work.items) <= work.deadline_seconds:
            cost = sizing.seconds(work.items) / 3600 * _price(candidate.counts)
            if best is None or cost < best[0]:
                best = (cost, sizing)
    return best[1] if best is not None else _of_all(offers, work)


def _pairs(offers: Sequence[Offer]) -> Iterator[dict[Offer, int]]:
    """Every cluster of one or two node types, each once."""
    for offer in offers:
        yield from ({offer: count} for count in range(1, offer.most + 1))
    for one, other in itertools.combinations(offers, 2):
        for here, there in itertools.product(range(1, one.most + 1), range(1, other.most + 1)):
            yield {one: here, other: there}


def _bounds(clusters: Iterator[Mapping[Offer, int]], work: Work) -> Iterator[_Candidate]:
    """The clusters that may be in time, with the least that each can cost: all stages at once, no worker idle."""
    for counts in clusters:
        seconds = least_seconds(work.loads, _cluster(counts, work), work.items)
        if seconds <= work.deadline_seconds:
            yield _Candidate(counts=counts, cost=seconds / 3600 * _price(counts), seconds=seconds)


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
