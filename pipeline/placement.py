"""Where the workers of each pool go and how many a cluster can hold of them: pure, told what the cluster has."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from actors.stage import PoolConfig
from cluster.capacity import Capacity
from cluster.nodes import ACCELERATOR_LABEL, GROUP_LABEL, NODE_LABEL, Cluster, NodeKind
from cluster.packing import Need, NodeType, engines_fit
from records.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What Ray is told of one pool beside its sizes."""

    max_actors: int
    """The pool's own, or fewer where the nodes hold fewer: workers that can never start would only be waited for."""
    initial_actors: int = 1
    """Workers asked for at the start. Engines ask for all of theirs at once, and so for the nodes that they need."""
    label_selector: Mapping[str, str] = field(default_factory=dict)


def one_worker(pool: PoolConfig) -> Capacity:
    """What a worker takes."""
    return Capacity(cpus=pool.num_cpus, gpus=pool.num_gpus, memory_bytes=pool.memory_bytes)


def place(name: str, pool: PoolConfig, cluster: Cluster) -> Placement:
    """Where a pool's workers go.

    Args:
        name: The stage, for errors.
        pool: What the user wants.
        cluster: What there is, or will be once the autoscaler has been asked.

    Raises:
        UserError: No node holds one worker, or all of them together not the smallest pool.
    """
    selector = dict(pool.node_labels)
    kinds: Sequence[NodeKind] = [kind for kind in cluster.kinds if kind.matches(selector)]
    if not kinds:
        raise UserError(f"{name}: no node has the labels {selector}")
    if pool.accelerator_type is not None:
        kinds = _with_accelerator(name, pool.accelerator_type, kinds)
        selector[ACCELERATOR_LABEL] = pool.accelerator_type
    if not pool.num_gpus and pool.nodes != "any":
        kinds, avoid = _without_gpus(name, pool, kinds)
        selector = {**avoid, **selector}
    held = sum(kind.holds(one_worker(pool)) for kind in kinds)
    if held < pool.min_actors:
        raise UserError(_too_small(name, pool, kinds, held))
    return Placement(max_actors=min(pool.max_actors, held), initial_actors=pool.min_actors, label_selector=selector)


def place_all(
    pools: Mapping[str, PoolConfig], cluster: Cluster, *, beside: Capacity, most: Mapping[str, int]
) -> dict[str, Placement]:
    """Places all pools of a run and says with how many workers each begins.

    Ray Data lets a pool grow by what the cluster has left now, of which it loses shares of a GPU to rounding (2.60,
    source: `default_autoscaling_coordinator.py`, `amount // len`). So pools of engines begin with as many workers as
    the whole cluster will hold beside the smallest pools of all others, in the proportion of their `max_actors`, and
    never more than there is work for; pools that share no node with engines likewise. The others begin small and grow
    by what is left. Sums are not enough where workers share GPUs: what would find no GPU with room is not asked for.

    Args:
        pools: Stage to its pool, in the order in which Ray is asked for their workers.
        cluster: What there is, or may be.
        beside: What else must fit: readers.
        most: Stage to the workers that can have work at once.

    Raises:
        UserError: As `place`.
    """
    placements = {name: place(name, pool, cluster) for name, pool in pools.items()}
    sizes = {name: pool.min_actors for name, pool in pools.items()}
    growing = [name for name, pool in pools.items() if pool.num_gpus or _is_apart(placements[name])]
    capacity = cluster.capacity()
    while growing:
        name = min(growing, key=lambda one: sizes[one] / pools[one].max_actors)
        more = {**sizes, name: sizes[name] + 1}
        if more[name] > min(placements[name].max_actors, most[name]) or not capacity.holds(_total(pools, more, beside)):
            growing.remove(name)
        else:
            sizes = more
    while not pools_fit({name: (sizes[name], pool) for name, pool in pools.items()}, cluster):
        larger = [name for name, pool in pools.items() if pool.num_gpus and sizes[name] > pool.min_actors]
        if not larger:
            break
        sizes[max(larger, key=lambda one: sizes[one] / pools[one].max_actors)] -= 1
    return {name: replace(placement, initial_actors=sizes[name]) for name, placement in placements.items()}


def pools_fit(pools: Mapping[str, tuple[int, PoolConfig]], cluster: Cluster) -> bool:
    """Whether so many workers of pools with GPUs find their places as Ray gives them, pool by pool.

    Args:
        pools: Stage to its number of workers and its pool, in the order in which Ray is asked for them.
        cluster: What there is, or may be.
    """
    workers = [
        (Need(cpus=pool.num_cpus, gpus=pool.num_gpus, memory_bytes=pool.memory_bytes, accelerator=wanted), count)
        for count, pool in pools.values()
        for wanted in [pool.accelerator_type]
    ]
    nodes: Counter[NodeType] = Counter()
    for kind in cluster.kinds:
        nodes[kind.as_type()] += kind.count
    return engines_fit(workers, nodes)


def _is_apart(placement: Placement) -> bool:
    return bool({GROUP_LABEL, NODE_LABEL} & placement.label_selector.keys())


def _total(pools: Mapping[str, PoolConfig], sizes: Mapping[str, int], beside: Capacity) -> Capacity:
    workers = [(sizes[name], one_worker(pool)) for name, pool in pools.items()]
    return Capacity(
        cpus=beside.cpus + sum(count * worker.cpus for count, worker in workers),
        gpus=beside.gpus + sum(count * worker.gpus for count, worker in workers),
        memory_bytes=beside.memory_bytes + sum(count * worker.memory_bytes for count, worker in workers),
    )


def _with_accelerator(name: str, wanted: str, kinds: Sequence[NodeKind]) -> Sequence[NodeKind]:
    """Nodes that have the GPU, or may have it: a group need not say which it has."""
    found = [
        kind
        for kind in kinds
        if kind.each.gpus and (wanted in kind.accelerators or (kind.is_group and not kind.accelerators))
    ]
    if not found:
        known = sorted({accelerator for kind in kinds for accelerator in kind.accelerators})
        raise UserError(f"{name}: no node has an accelerator {wanted!r}; the cluster has {', '.join(known) or 'none'}")
    return found


def _without_gpus(name: str, pool: PoolConfig, kinds: Sequence[NodeKind]) -> tuple[Sequence[NodeKind], dict[str, str]]:
    """Nodes without GPUs and the selector that keeps to them; all nodes where only a head is without.

    A group's nodes carry its name as a label; nodes that are there already are told apart by their ids.
    """
    others = [kind for kind in kinds if not kind.each.gpus]
    with_gpus = [kind for kind in kinds if kind.each.gpus]
    if not with_gpus:
        return kinds, {}
    if not any(kind.holds(one_worker(pool)) for kind in others if pool.nodes == "cpu" or not kind.is_head):
        if pool.nodes == "cpu":
            raise UserError(f"{name}: nodes is cpu, and no node without GPUs holds a worker")
        return kinds, {}
    avoid = {
        GROUP_LABEL: _none_of(kind.name for kind in with_gpus if kind.is_group),
        NODE_LABEL: _none_of(kind.name for kind in with_gpus if not kind.is_group),
    }
    return others, {key: value for key, value in avoid.items() if value}


def _none_of(names: Iterable[str]) -> str:
    listed = ",".join(sorted(names))
    return f"!in({listed})" if listed else ""


def _too_small(name: str, pool: PoolConfig, kinds: Sequence[NodeKind], held: int) -> str:
    worker = one_worker(pool)
    if not held:
        largest = max(kinds, key=lambda kind: (kind.each.gpus, kind.each.cpus, kind.each.memory_bytes))
        return f"a worker of {name} needs {worker}; the largest node it may take has {largest.each}"
    return f"{name} needs {pool.min_actors} workers of {worker} each; the nodes it may take hold {held}"
