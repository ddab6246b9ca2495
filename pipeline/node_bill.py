"""What a run's nodes cost while they are there: an autoscaler brings them and takes them away."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ray.exceptions import RayError

from cluster.nodes import NodeGroup
from cluster.packing import Nodes
from cluster.prices import PriceTable
from pipeline.cluster_view import connected_nodes, present_nodes
from pipeline.run_plan import ClusterPrices, RunPlan

LOOK_SECONDS = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCosts:
    """Of the nodes that were there, those without CPUs and GPUs for work left out, as a head's often are."""

    cost: float
    mean_nodes: float
    most_nodes: int


@dataclass(slots=True, kw_only=True)
class NodeBill:
    """Adds up what the nodes of the connected cluster cost. For one thread."""

    prices: ClusterPrices
    """Of all nodes that there may be."""
    table: PriceTable | None = None
    """Knows each node's own price; without it a node costs what its GPUs, or else its CPUs, cost on average."""
    present: Callable[[], Nodes]
    clock: Callable[[], float] = time.monotonic
    _now: Nodes = field(default_factory=dict)
    _per_hour: float = 0.0
    _began: float | None = None
    _last: float = 0.0
    _cost: float = 0.0
    _node_seconds: float = 0.0
    _most: int = 0

    @classmethod
    def open(cls, groups: Sequence[NodeGroup], table: PriceTable | None, plan: RunPlan | None) -> "NodeBill | None":
        """The bill of the connected cluster, by the user's table, else as planned; None where no price is known.

        Args:
            groups: What the cluster may grow to.
        """
        planned = plan.prices if plan is not None else None
        if table is None and planned is None:
            return None
        nodes, _ = connected_nodes(groups)
        if table is not None:
            whose, prices = "--prices", ClusterPrices.of(nodes, table)
            without = [node.name for node in nodes if table.price_per_hour({node: 1}) is None]
        else:
            assert planned is not None
            whose, prices = "the plan", planned.for_nodes(nodes)
            without = [node.name for node in nodes if not planned.of_nodes({node: 1})]
        if prices is None:
            named = ", ".join(without)
            logger.warning("%s has no price for nodes of this cluster (%s): the report names no prices", whose, named)
            return None
        return cls(prices=prices, table=table, present=lambda: present_nodes(groups))

    def look(self) -> None:
        """Counts the time since the last look for the nodes that were there then; at most every `LOOK_SECONDS`."""
        now = self.clock()
        if self._began is None:
            self._began = self._last = now
        elif now - self._last < LOOK_SECONDS:
            return
        self._count(now)
        try:
            nodes = self.present()
        except (RayError, RuntimeError):  # its head does not answer: the run itself will hear of it
            logger.debug("nodes cannot be listed", exc_info=True)
            return
        per_hour = self.table.price_per_hour(nodes) if self.table is not None else None
        self._now, self._per_hour = nodes, per_hour if per_hour is not None else self.prices.of_nodes(nodes)
        self._most = max(self._most, sum(nodes.values()))

    def costs(self) -> NodeCosts:
        """All up to now."""
        self._count(self.clock())
        seconds = self._last - self._began if self._began is not None else 0.0
        mean = self._node_seconds / seconds if seconds else 0.0
        return NodeCosts(cost=self._cost, mean_nodes=mean, most_nodes=self._most)

    def _count(self, now: float) -> None:
        passed, self._last = now - self._last, now
        self._cost += self._per_hour * passed / 3600
        self._node_seconds += sum(self._now.values()) * passed
