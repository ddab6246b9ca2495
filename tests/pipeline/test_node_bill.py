"""A bill is the sum over nodes of their prices times the hours for which they were there."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RaySystemError

from cluster.cheapest import Offer
from cluster.packing import Nodes, NodeType
from cluster.prices import PriceTable
from pipeline.node_bill import LOOK_SECONDS, NodeBill, NodeCosts
from pipeline.run_plan import ClusterPrices

GPU = NodeType(name="gpu", cpus=8, gpus=2, memory_bytes=2**36)
CPU = NodeType(name="cpu", cpus=16, gpus=0, memory_bytes=2**36)
TABLE = PriceTable(
    currency="EUR",
    offers=(Offer(type=GPU, price_per_hour=6.0, most=4), Offer(type=CPU, price_per_hour=0.8, most=4)),
)
WHOLE = ClusterPrices.of({GPU: 4, CPU: 2}, TABLE)
HOUR = 3600.0


class Cluster:
    """Nodes and a clock that a test sets."""

    nodes: Nodes
    now = 1000.0
    answers = True

    def __init__(self) -> None:
        self.nodes = {}
        self.asked = 0

    def present(self) -> Nodes:
        self.asked += 1
        if not self.answers:
            raise RaySystemError("the head does not answer")  # type: ignore[no-untyped-call]
        return self.nodes

    def bill(self, table: PriceTable | None) -> NodeBill:
        assert WHOLE is not None
        return NodeBill(prices=WHOLE, table=table, present=self.present, clock=lambda: self.now)


@pytest.mark.parametrize("table", [TABLE, None])
def test_nodes_that_come_and_go_cost_the_time_for_which_they_were_there(table: PriceTable | None) -> None:
    cluster = Cluster()
    bill = cluster.bill(table)
    history: list[Nodes] = [{CPU: 1}, {CPU: 1, GPU: 3}, {CPU: 2, GPU: 1}, {}]
    for nodes in history:
        cluster.nodes = nodes
        bill.look()
        cluster.now += HOUR
    costs = bill.costs()
    assert costs.cost == pytest.approx(0.8 + (0.8 + 18) + (1.6 + 6))
    assert costs.mean_nodes == pytest.approx((1 + 4 + 3) / 4)
    assert costs.most_nodes == 4


def test_a_type_that_the_table_does_not_know_costs_as_its_gpus_or_cpus_do_on_average() -> None:
    cluster = Cluster()
    bill = cluster.bill(TABLE)
    cluster.nodes = {replace(GPU, name="one", gpus=1): 1, replace(CPU, name="half", cpus=8): 1}
    bill.look()
    cluster.now += HOUR
    assert bill.costs().cost == pytest.approx(3.0 + 0.4)


@pytest.mark.parametrize(
    ("planned", "nodes", "known"),
    [
        ({GPU: 1}, {CPU: 1}, False),
        ({CPU: 1}, {GPU: 1}, False),
        ({GPU: 1}, {GPU: 9}, True),
        ({GPU: 1, CPU: 1}, {CPU: 1}, True),
    ],
)
def test_a_plan_for_nodes_of_another_sort_prices_none_of_a_runs(
    planned: Nodes, nodes: Nodes, known: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Made for GPU nodes alone it would have a laptop cost nothing."""
    monkeypatch.setattr("pipeline.node_bill.connected_nodes", lambda groups: (nodes, None))
    plan: Any = SimpleNamespace(prices=ClusterPrices.of(planned, TABLE))
    assert (NodeBill.open([], None, plan) is not None) == known
    (node,) = nodes
    assert (f"the plan has no price for nodes of this cluster ({node.name})" in caplog.text) == (not known)
    assert NodeBill.open([], None, None) is None


def test_nodes_that_a_table_has_no_price_for_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a group that is not there yet nobody would guess it."""
    group = replace(CPU, name="group", cpus=15)
    monkeypatch.setattr("pipeline.node_bill.connected_nodes", lambda groups: ({CPU: 1, group: 20}, None))
    assert NodeBill.open([], TABLE, None) is None
    assert "--prices has no price for nodes of this cluster (group): the report" in caplog.text


def test_all_that_a_cluster_may_have_costs_what_the_runs_own_nodes_do_and_not_those_planned_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.node_bill.connected_nodes", lambda groups: ({CPU: 1}, None))
    plan: Any = SimpleNamespace(prices=ClusterPrices.of({CPU: 99}, TABLE))
    bill = NodeBill.open([], None, plan)
    assert bill is not None
    assert bill.prices.cluster_per_hour == pytest.approx(0.8)
    assert bill.prices.cpu_per_hour == pytest.approx(0.05)


def test_a_head_that_does_not_answer_is_asked_again_and_nothing_is_left_out() -> None:
    cluster = Cluster()
    bill = cluster.bill(TABLE)
    for answers, nodes in [(True, {GPU: 1}), (False, {}), (True, {})]:
        cluster.answers, cluster.nodes = answers, nodes
        bill.look()
        cluster.now += HOUR
    assert bill.costs().cost == pytest.approx(12.0)


def test_looks_are_as_rare_as_they_may_be_and_a_bill_without_one_is_nothing() -> None:
    cluster = Cluster()
    bill = cluster.bill(TABLE)
    assert bill.costs() == NodeCosts(cost=0.0, mean_nodes=0.0, most_nodes=0)
    for _ in range(101):
        bill.look()
        cluster.now += LOOK_SECONDS / 4
    assert cluster.asked == 26
