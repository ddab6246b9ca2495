"""The nodes of the connected cluster as Ray tells of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray._private.state import state
from ray.core.generated import common_pb2

RayNode = Mapping[str, Any]
"""Its `NodeID`, `Alive`, `DeathReason`, `Resources`, `Labels` and addresses."""

GIVEN_BACK: int = common_pb2.NodeDeathInfo.Reason.AUTOSCALER_DRAIN_IDLE  # type: ignore[attr-defined]
"""The death of a node that the autoscaler took away because nothing was on it."""


def all_nodes() -> list[RayNode]:
    """Those that are there and those that are gone."""
    nodes: list[RayNode] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def live_nodes() -> list[RayNode]:
    """Those that are there."""
    return [node for node in all_nodes() if node["Alive"]]


def live_node_ids() -> set[str]:
    """Ray's ids of the nodes that are there."""
    return {node["NodeID"] for node in live_nodes()}


def why_own_node_goes() -> str | None:
    """What to say where this process's node is to end: Ray (2.60) drains it first, as when its pod is told to go.

    The process itself gets no signal then. Ray has no public way to ask; its own trainer asks so too.
    """
    draining: Mapping[str, int] = state.get_draining_nodes()
    here = ray.get_runtime_context().get_node_id() in draining
    return "the node of this driver is being taken away" if here else None


@dataclass(slots=True)
class NodesSeen:
    """Nodes that were there in a pass, those that came meanwhile too: what they held may have no room when they go."""

    _seen: set[str] = field(default_factory=set)

    def gone(self) -> int:
        """How many of them are not there now, those left out that went because they held nothing."""
        nodes = all_nodes()
        live = {node["NodeID"] for node in nodes if node["Alive"]}
        self._seen |= live
        given_back = {node["NodeID"] for node in nodes if not node["Alive"] and node["DeathReason"] == GIVEN_BACK}
        return len(self._seen - live - given_back)
