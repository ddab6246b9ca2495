"""What the connected cluster has and what it may grow to: Ray's live nodes, and the groups that the user names."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from cluster.capacity import Capacity
from cluster.nodes import ACCELERATOR_LABEL, GROUP_LABEL, Cluster, NodeGroup, NodeKind

_HEAD = "node:__internal_head__"


def read_cluster(groups: Sequence[NodeGroup] = ()) -> Cluster:
    """The nodes that are alive and the groups that an autoscaler may grow.

    Ray 2.60 itself knows of an autoscaler's groups only on Anyscale: the open one tells nobody what it may start.
    """
    return make_cluster([node for node in ray.nodes() if node["Alive"]], groups)  # type: ignore[no-untyped-call]


def make_cluster(nodes: Sequence[Mapping[str, Any]], groups: Sequence[NodeGroup]) -> Cluster:
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


def _live(node: Mapping[str, Any]) -> NodeKind:
    labels: Mapping[str, str] = node["Labels"]
    return NodeKind(
        name=node["NodeID"],
        count=1,
        each=Capacity.of(node["Resources"]),
        accelerators=frozenset({labels[ACCELERATOR_LABEL]} if ACCELERATOR_LABEL in labels else ()),
        labels=labels,
        is_head=_HEAD in node["Resources"],
    )
