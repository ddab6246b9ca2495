"""The nodes that a cluster has or may grow to, and how many workers they hold: pure arithmetic, no Ray."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from cluster.capacity import Capacity
from cluster.packing import UNLIMITED, NodeType

ACCELERATOR_LABEL = "ray.io/accelerator-type"
GROUP_LABEL = "ray.io/node-group"
NODE_LABEL = "ray.io/node-id"

_MOST_BYTES = 2**44
"""Memory of a node where a group does not say."""

_MANY = re.compile(r"(!?)in\((.*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKind:
    """Nodes that are alike: a group of the autoscaler, or one node that no autoscaler has started."""

    name: str
    """The group's name, or the node's id."""
    count: int
    """Nodes there are or may be."""
    each: Capacity
    """What one of them has."""
    accelerators: frozenset[str] = frozenset()
    """Names of its GPUs, as far as they are known."""
    labels: Mapping[str, str] = field(default_factory=dict)
    is_group: bool = False
    """Whether an autoscaler starts and stops them."""
    is_head: bool = False

    def as_type(self) -> NodeType:
        """One of these nodes, for packing, under the name of the kind; GPUs of several sorts fit every wish."""
        return NodeType(
            name=self.name,
            cpus=self.each.cpus,
            gpus=int(self.each.gpus),
            accelerator=min(self.accelerators) if self.each.gpus and len(self.accelerators) == 1 else None,
            memory_bytes=int(min(self.each.memory_bytes, _MOST_BYTES)),
        )

    def holds(self, worker: Capacity) -> int:
        """How many such workers all these nodes hold, alone on them."""
        return self.count * _on_one(worker, self.each)

    def matches(self, selector: Mapping[str, str]) -> bool:
        """Whether the labels meet a selector. A group may have more labels than anybody knows before it has nodes."""
        known = {key: wanted for key, wanted in selector.items() if key in self.labels or not self.is_group}
        return all(_meets(self.labels.get(key), wanted) for key, wanted in known.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup:
    """A group of nodes that the autoscaler may grow, as the cluster's file names it. Never part of a fingerprint.

    Raises:
        ValueError: A number is not positive, GPUs are no whole number, or a GPU is named where there is none.
    """

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}  # a slip in a name is told, not dropped

    name: str
    """Its nodes carry it as the label `ray.io/node-group`: KubeRay's `groupName`, a node type of `ray up`."""
    max_nodes: int
    cpus: float
    gpus: float = 0.0
    memory_bytes: int = 0
    """Of one node, as Ray counts it; 0 where no pool asks for memory."""
    accelerator_type: str | None = None
    """Its GPUs, as Ray names them: `H100`, `L4` …; the group must declare the label `ray.io/accelerator-type`."""

    def __post_init__(self) -> None:
        if not self.name or self.max_nodes < 1 or self.cpus <= 0 or self.gpus < 0 or self.memory_bytes < 0:
            raise ValueError("node group: needs a name, max_nodes and cpus above 0, and no negative number")
        if self.gpus != int(self.gpus):
            raise ValueError(f"node group: gpus of a node is a whole number, not {self.gpus:g}")
        if self.accelerator_type and not self.gpus:
            raise ValueError("node group: accelerator_type names the GPUs of a group that has gpus")

    def kind(self, labels: Mapping[str, str] | None = None) -> NodeKind:
        """Its nodes; `labels` are those of one that is there."""
        known = {GROUP_LABEL: self.name} | ({ACCELERATOR_LABEL: self.accelerator_type} if self.accelerator_type else {})
        return NodeKind(
            name=self.name,
            count=self.max_nodes,
            each=Capacity(cpus=self.cpus, gpus=self.gpus, memory_bytes=self.memory_bytes or math.inf),
            accelerators=frozenset({self.accelerator_type} if self.accelerator_type else ()),
            labels=labels or known,
            is_group=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """All nodes that a run may use."""

    kinds: tuple[NodeKind, ...]

    def capacity(self) -> Capacity:
        """What it has once it has grown as far as it may."""
        return Capacity(
            cpus=sum(kind.count * kind.each.cpus for kind in self.kinds),
            gpus=sum(kind.count * kind.each.gpus for kind in self.kinds),
            memory_bytes=sum(kind.count * kind.each.memory_bytes for kind in self.kinds),
        )


def _on_one(worker: Capacity, node: Capacity) -> int:
    """Workers on one node. A share of a GPU is one of one GPU; several GPUs are whole ones of one node."""
    fits: list[float] = [math.inf]
    if worker.cpus:
        fits.append(node.cpus / worker.cpus)
    if worker.memory_bytes:
        fits.append(node.memory_bytes / worker.memory_bytes)
    if worker.gpus >= 1:
        fits.append(node.gpus / worker.gpus)
    elif worker.gpus:
        fits.append(int(node.gpus) * int(_whole(min(1 / worker.gpus, UNLIMITED))))
    most = min(fits)
    return UNLIMITED if math.isinf(most) else int(_whole(most))


def _whole(number: float) -> float:
    """Rounds down, but not what floating point alone keeps below a whole number: 1 / 0.05 or 0.9 / 0.1."""
    return math.floor(number + 1e-9)


def _meets(value: str | None, wanted: str) -> bool:
    """One condition of Ray's label selectors; a label that is not there is not equal to anything."""
    many = _MANY.fullmatch(wanted)
    if many is not None:
        among = value in [name.strip() for name in many[2].split(",")]
        return among != bool(many[1])
    return value != wanted[1:] if wanted.startswith("!") else value == wanted
