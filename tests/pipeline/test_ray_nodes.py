"""Which nodes have gone, those that came meanwhile too."""

import pytest

from pipeline.ray_nodes import NodesSeen


def test_nodes_that_came_later_may_go_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    live: set[str] = {"head"}
    monkeypatch.setattr("pipeline.ray_nodes.live_node_ids", lambda: set(live))
    seen = NodesSeen()
    assert seen.gone() == 0
    live |= {"a", "b"}
    assert seen.gone() == 0
    live -= {"a"}
    assert seen.gone() == 1
    live |= {"a"}
    assert seen.gone() == 0, "it is back"
