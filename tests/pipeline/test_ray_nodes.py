"""Which nodes have gone, those that came meanwhile too."""

import pytest

from pipeline.ray_nodes import GIVEN_BACK, NodesSeen


def test_nodes_that_came_later_may_go_as_well_but_not_those_that_were_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes: dict[str, tuple[bool, int]] = {"head": (True, 0)}
    monkeypatch.setattr(
        "pipeline.ray_nodes.all_nodes",
        lambda: [{"NodeID": name, "Alive": alive, "DeathReason": why} for name, (alive, why) in nodes.items()],
    )
    seen = NodesSeen()
    assert seen.gone() == 0
    nodes |= {"a": (True, 0), "b": (True, 0)}
    assert seen.gone() == 0
    nodes["a"] = (False, 2)
    assert seen.gone() == 1
    nodes["b"] = (False, GIVEN_BACK)
    assert seen.gone() == 1, "nothing was on it"
    nodes["a"] = (True, 0)
    assert seen.gone() == 0, "it is back"
