"""Where the workers of each pool go and how many a cluster can hold of them: pure, told what the cluster has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from actors.stage import PoolConfig
from cluster.capacity import Capacity
from cluster.nodes import ACCELERATOR_LABEL, GROUP_LABEL, NODE_LABEL, Cluster, NodeKind
from records.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What Ray is told of one pool beside its sizes."""

    max_actors: int
    """The pool's own, or fewer where the nodes hold fewer: workers that can never start would only be waited for."""
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
    return Placement(max_actors=min(pool.max_actors, held), label_selector=selector)


def place_all(pools: Mapping[str, PoolConfig], cluster: Cluster) -> dict[str, Placement]:
    """Stage to its placement.

    Raises:
        UserError: As `place`.
    """
    return {name: place(name, pool, cluster) for name, pool in pools.items()}


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
