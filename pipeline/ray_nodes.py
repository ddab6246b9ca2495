"""The nodes of the connected cluster as Ray tells of them."""

from collections.abc import Mapping
from typing import Any

import ray

RayNode = Mapping[str, Any]
"""Its `NodeID`, `Alive`, `Resources`, `Labels` and addresses."""


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
