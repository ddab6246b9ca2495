"""How many workers each stage gets on a cluster, and how fast the rows then go: pure functions of measured costs.

The rate r of a pipeline is what its slowest part allows: a pool of n workers that take s seconds an item gives n / s;
all cores what the CPU seconds of an item leave; all GPUs what its GPU seconds leave, however many workers share one. A
rate needs n = ceil(r s) workers of each stage, which fit on the nodes or not. The highest rate whose workers fit is the
answer; of all ways to cut the stages into phases, the fastest. Workers fit where some way to place them does, and where
those with GPUs also find their places one after the other, as a run asks for them: so it begins with what was planned.

More of anything never makes it slower, but for two things. The cores that more workers take to load are counted in the
time, and no part of the search for a rate. And who takes the first place that he finds may find a worse one on more.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cluster.loads import Cluster, StageLoad
from records.errors import UserError

_EXACT = 1e-9
"""What floating point may add to a whole number of workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSize:
    """Stages that run together."""

    workers: Mapping[str, int]
    """Stage to its workers, at least one."""
    items_per_second: float
    """inf where nothing costs anything."""
    bottleneck: str
    """The stage whose pool is the slowest, or that all cores or GPUs are busy, and most of all for which stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """How a cluster is used."""

    phases: tuple[PhaseSize, ...]
    loads: tuple[StageLoad, ...] = field(repr=False)
    cluster: Cluster = field(repr=False)

    @property
    def seconds_per_item(self) -> float:
        """Seconds of the whole cluster for an item, over all phases; loading of models apart."""
        return sum(1 / phase.items_per_second for phase in self.phases)

    @property
    def start_seconds(self) -> float:
        """Until the workers of each phase are there."""
        return sum(self.phase_start_seconds(phase) for phase in self.phases)

    def phase_start_seconds(self, phase: PhaseSize) -> float:
        """Until the first worker of each stage would be there alone, or all of them, which load on the same cores."""
        here = [load for load in self.loads if load.name in phase.workers]
        busy = sum(phase.workers[load.name] * load.start_cpu_seconds for load in here)
        return max(start_seconds(here), busy / self.cluster.core_count if busy else 0.0)

    def seconds(self, items: float) -> float:
        """How long so many items take, loading included."""
        return self.start_seconds + items * self.seconds_per_item

    def workers(self) -> dict[str, int]:
        """Stage to its workers, of several phases the most."""
        found: dict[str, int] = {}
        for phase in self.phases:
            for name, count in phase.workers.items():
                found[name] = max(found.get(name, 0), count)
        return found


def start_seconds(loads: Iterable[StageLoad]) -> float:
    """How long the first workers of some stages take to be ready: those with GPUs one after the other."""
    gpu, cpu = [0.0], [0.0]
    for load in loads:
        (gpu if load.need.gpus else cpu).append(load.start_seconds)
    return max(sum(gpu), max(cpu))


def rate(loads: Sequence[StageLoad], workers: Mapping[str, int], cluster: Cluster) -> tuple[float, str]:
    """Items a second with so many workers, and what keeps it from being more."""
    limits = [(workers[load.name] / load.seconds, load.name) for load in loads if load.seconds > 0]
    shared = _shared_limits(loads, cluster)  # first: where they bind too, a further worker would not help
    return min([*shared, *limits, (math.inf, "nothing")], key=lambda limit: limit[0])


def size_pools(loads: Sequence[StageLoad], cluster: Cluster, items: float) -> Sizing:
    """The fastest pools that fit, in as many phases as that takes.

    Args:
        loads: The stages that must run, upstream first.
        cluster: What they may use.
        items: Items to run: what one more loading of models is weighed against.

    Raises:
        UserError: A stage alone (with `decode` where it needs that) does not fit.
    """
    sized: dict[tuple[str, ...], PhaseSize | None] = {}
    best: Sizing | None = None
    for groups in _ways(loads):
        bound = sum(least_seconds(group, cluster, items) for group in groups)
        if best is not None and not bound < best.seconds(items) * (1 - _EXACT):  # not by what rounding makes of equals
            continue
        phases: list[PhaseSize] = []
        for group in groups:
            names = tuple(load.name for load in group)
            if names not in sized:
                sized[names] = _size_phase(group, cluster) if _one_each(group, cluster) else None
            if (phase := sized[names]) is not None:
                phases.append(phase)
        if len(phases) == len(groups):
            sizing = Sizing(phases=tuple(phases), loads=tuple(loads), cluster=cluster)
            if best is None or sizing.seconds(items) < best.seconds(items) * (1 - _EXACT):
                best = sizing
    if best is None:
        raise UserError(_no_room(loads, cluster))
    return best


def _ways(loads: Sequence[StageLoad]) -> Iterator[list[list[StageLoad]]]:
    """Every way to cut the stages into phases, upstream first, fewest phases first; `decode` wherever it is needed."""
    decode = [load for load in loads if load.name == "decode"]
    others = [load for load in loads if load.name != "decode"] or decode
    for cuts in range(len(others)):
        for places in itertools.combinations(range(1, len(others)), cuts):
            groups = [others[start:stop] for start, stop in itertools.pairwise([0, *places, len(others)])]
            wanting = [any(load.needs_decode for load in group) for group in groups]
            if others is not decode and decode and not any(wanting):
                wanting[0] = True
            yield [
                [*decode, *group] if wants and others is not decode else group
                for group, wants in zip(groups, wanting, strict=True)
            ]


def _no_room(loads: Sequence[StageLoad], cluster: Cluster) -> str:
    """The stage that does not fit even alone, and what it asks for."""
    decode = [load for load in loads if load.name == "decode"]
    for load in loads:
        alone = [*(decode if load.needs_decode else ()), load]
        if not _one_each(alone, cluster):
            needs = [one.need for one in alone]
            wanted = f" of {load.need.accelerator}" if load.need.accelerator else ""
            names = " beside one of ".join(one.name for one in reversed(alone))
            return (
                f"the cluster has no room for a worker of {names}: together "
                f"{sum(need.cpus for need in needs):g} CPUs, {sum(need.gpus for need in needs):g} GPUs{wanted} and "
                f"{sum(need.memory_bytes for need in needs) / 2**30:.1f} GiB, beside what reading takes"
            )
    raise AssertionError("each stage fits alone")


def least_seconds(loads: Sequence[StageLoad], cluster: Cluster, items: float) -> float:
    """What items take at least, whatever the sizes; inf where they cannot run at all."""
    most = upper_rate(loads, cluster)
    return start_seconds(loads) + items / most if most else math.inf


def upper_rate(loads: Sequence[StageLoad], cluster: Cluster) -> float:
    """A rate that no sizes exceed: what cores and GPUs allow."""
    return min([limit for limit, _ in _shared_limits(loads, cluster)], default=math.inf)


def _shared_limits(loads: Sequence[StageLoad], cluster: Cluster) -> list[tuple[float, str]]:
    """What cores and GPUs allow, whoever uses them."""
    limits: list[tuple[float, str]] = []
    cpu_seconds = sum(load.cpu_seconds for load in loads)
    if cpu_seconds > 0:
        most = max(loads, key=lambda load: load.cpu_seconds)
        limits.append((cluster.core_count / cpu_seconds, f"cores, most of all for {most.name}"))
    for wanted in {load.need.accelerator for load in loads if load.need.gpus}:
        taking = [load for load in loads if load.need.gpus and wanted in (None, load.need.accelerator)]
        gpu_seconds = sum(load.gpu_seconds for load in taking)
        if gpu_seconds > 0:
            most = max(taking, key=lambda load: load.gpu_seconds)
            limits.append((cluster.gpus(wanted) / gpu_seconds, f"GPUs, most of all for {most.name}"))
    return limits


def _one_each(loads: Sequence[StageLoad], cluster: Cluster) -> bool:
    return cluster.holds(loads, {load.name: 1 for load in loads})


def _size_phase(loads: Sequence[StageLoad], cluster: Cluster) -> PhaseSize:
    """The highest rate whose workers fit. Candidates are the rates at which some stage needs one worker more."""
    bounds = [(load, _most_workers(load, loads)) for load in loads if load.seconds > 0]
    most = min(
        [upper_rate(loads, cluster)] + [workers / load.seconds for load, workers in bounds if workers is not None]
    )
    candidates = _candidates(loads, cluster, most)
    fitting = candidates[: _good(candidates, lambda one: cluster.has_room(loads, _workers_for(loads, one)))]
    # A rate may be good in order although a lower one is not: all are looked at, the highest first.
    found = (_workers_for(loads, one) for one in reversed(fitting))
    alone = {load.name: 1 for load in loads}
    workers = next((workers for workers in found if cluster.takes_in_order(loads, workers)), alone)
    items_per_second, bottleneck = rate(loads, workers, cluster)
    return PhaseSize(workers=workers, items_per_second=items_per_second, bottleneck=bottleneck)


def _most_workers(load: StageLoad, phase: Sequence[StageLoad]) -> int | None:
    """Workers that can have work in a phase; none for no bound."""
    if load.most_workers_of_texts is None or any(one.needs_decode or one.name == "decode" for one in phase):
        return load.most_workers
    return load.most_workers_of_texts


def _candidates(loads: Sequence[StageLoad], cluster: Cluster, most: float) -> list[float]:
    rates = {most} if math.isfinite(most) else set[float]()
    for load in loads:
        if load.seconds > 0:
            workers = math.floor(min(most * load.seconds + _EXACT, _alone(load, cluster)))
            rates.update((np.arange(1, workers + 1) / load.seconds).tolist())
    return sorted(one for one in rates if one <= most)


def _alone(load: StageLoad, cluster: Cluster) -> int:
    """A number of workers of one stage that never fits more than: what is scarcest of CPUs, GPUs and memory."""
    sums = [
        (type_.cpus * count, type_.gpus * count, type_.memory_bytes * count) for type_, count in cluster.nodes.items()
    ]
    need = (load.need.cpus, load.need.gpus, load.need.memory_bytes)
    bounds = [sum(one[i] for one in sums) / need[i] for i in range(3) if need[i]]
    return math.floor(min(bounds, default=1.0) + _EXACT)


def _workers_for(loads: Sequence[StageLoad], items_per_second: float) -> dict[str, int]:
    return {load.name: max(1, math.ceil(items_per_second * load.seconds - _EXACT)) for load in loads}


def _good(values: Sequence[float], good: Callable[[float], bool]) -> int:
    """How many values are good, where all values before a good one are good too."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if good(values[middle]):
            low = middle + 1
        else:
            high = middle
    return low
