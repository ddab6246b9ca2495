"""What the connected cluster has and what it may grow to: Ray's live nodes, and the groups that the user names."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cluster.capacity import Capacity
from cluster.nodes import ACCELERATOR_LABEL, GROUP_LABEL, Cluster, NodeGroup, NodeKind
from cluster.packing import Nodes, NodeType
from pipeline.ray_nodes import RayNode, live_nodes
from pipeline.ray_session import in_cluster

_HEAD = "node:__internal_head__"


def read_cluster(groups: Sequence[NodeGroup] = ()) -> Cluster:
    """The nodes that are alive and the groups that an autoscaler may grow.

    Ray 2.60 itself knows of an autoscaler's groups only on Anyscale: the open one tells nobody what it may start.
    """
    return make_cluster(live_nodes(), groups)


def make_cluster(nodes: Sequence[RayNode], groups: Sequence[NodeGroup]) -> Cluster:
    """Puts live nodes, as `ray.nodes()` gives them, and groups together: a group's live nodes are some of its own."""
    names = {group.name for group in groups}
    of_group: dict[str, Mapping[str, str]] = {}
    kinds: list[NodeKind] = []
    for node in nodes:
        name = str(node["Labels"].get(GROUP_LABEL, ""))
        if name in names and _HEAD not in node["Resources"]:
            of_group[name] = node["Labels"]
        else:
            kinds.append(_live(node))
    return Cluster(kinds=(*kinds, *(group.kind(of_group.get(group.name)) for group in groups)))


def _live(node: RayNode) -> NodeKind:
    labels: Mapping[str, str] = node["Labels"]
    return NodeKind(
        name=node["NodeID"],
        count=1,
        each=Capacity.of(node["Resources"]),
        accelerators=frozenset({labels[ACCELERATOR_LABEL]} if ACCELERATOR_LABEL in labels else ()),
        labels=labels,
        is_head=_HEAD in node["Resources"],
    )


def connected_nodes(groups: Sequence[NodeGroup]) -> tuple[Nodes, float | None]:
    """The nodes of the connected cluster, those that its groups may grow to included; its cores where Ray runs here.

    Args:
        groups: As `read_cluster` takes them.
    """
    found: Counter[NodeType] = Counter()
    for kind in read_cluster(groups).kinds:
        if kind.each.cpus or kind.each.gpus:
            found[_node_type(kind)] += kind.count
    return dict(found), None if in_cluster() else float(os.cpu_count() or 1)


def present_nodes(groups: Sequence[NodeGroup]) -> Nodes:
    """The nodes that are there now, each of its group's type where it belongs to one of `groups`."""
    names = {group.name for group in groups}
    found: Counter[NodeType] = Counter()
    for node in live_nodes():
        kind = _live(node)
        if kind.each.cpus or kind.each.gpus:
            group = str(kind.labels.get(GROUP_LABEL, ""))
            type_ = _node_type(kind)
            found[replace(type_, name=group) if group in names and not kind.is_head else type_] += 1
    return dict(found)


def _node_type(kind: NodeKind) -> NodeType:
    """A node's type, named by its group, else by what it has."""
    type_ = kind.as_type()
    gpus = f"-{type_.gpus}-{(type_.accelerator or 'gpu').lower()}" if type_.gpus else ""
    return replace(
        type_,
        name=kind.name if kind.is_group else f"{type_.cpus:g}-cpu{gpus}",
        memory_bytes=type_.memory_bytes // 2**30 * 2**30,  # nodes that are alike differ by some pages
    )
