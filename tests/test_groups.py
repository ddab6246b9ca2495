"""Tests that share a start share a process, and what a machine may have once is in one."""

from pathlib import Path

import pytest

from tests.groups import ENGINES, ROOT, group_of

TESTS = ROOT / "tests"


@pytest.mark.parametrize(
    ("path", "fixtures", "group"),
    [
        (TESTS / "actors" / "test_caption.py", ["tiny_models", "qwen3_vl"], ENGINES),
        (TESTS / "jobs" / "test_killed.py", ["tmp_path", "described", "s3_server"], ENGINES),
        (TESTS / "pipeline" / "test_run.py", ["light_ray", "tmp_path"], "light_ray"),
        (TESTS / "pipeline" / "test_s3_run.py", ["s3_proxy", "drivers_ray"], "drivers_ray"),
        (TESTS / "jobs" / "test_plan.py", ["tmp_path"], "test_plan"),
    ],
)
def test_a_test_is_with_those_that_start_the_same(path: Path, fixtures: list[str], group: str) -> None:
    assert group_of(path, fixtures) == group


def test_every_test_is_marked(request: pytest.FixtureRequest) -> None:
    mark = request.node.get_closest_marker("xdist_group")
    assert mark is not None
    assert mark.args == ("test_groups",)
