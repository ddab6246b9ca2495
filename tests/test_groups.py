"""Files whose tests share a start share a process, and what a machine may have once is in one."""

from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer

from tests.groups import ENGINES, ROOT, GroupScheduling, group_of, pytest_xdist_make_scheduler


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("tests/actors/test_caption.py", ENGINES),
        ("tests/jobs/test_annotate.py", ENGINES),
        ("tests/jobs/test_killed.py", ENGINES),
        ("tests/pipeline/test_run.py", "light_ray"),
        ("tests/jobs/test_evaluate.py", "light_ray"),
        ("tests/pipeline/test_s3_run.py", "drivers_ray"),
        ("tests/jobs/test_plan.py", "tests/jobs/test_plan.py"),
    ],
)
def test_a_file_is_with_those_that_start_the_same(path: str, group: str) -> None:
    assert group_of(path) == group


def test_whoever_looks_at_the_described_run_is_with_the_engines() -> None:
    """It is started in one process, and what is left of it is looked for on the whole machine."""
    looks = "jobs." + "described import"  # split, so that this file is none of them
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if looks in path.read_text()]
    uses = {path.relative_to(ROOT).as_posix() for path in files if "Described" in path.read_text()}
    assert len(uses) >= 3
    assert {group_of(path) for path in uses} == {ENGINES}


def test_xdist_gives_out_groups_where_it_would_give_out_files() -> None:
    scheduling = object.__new__(GroupScheduling)  # what it is made of are workers
    assert scheduling._split_scope("tests/actors/test_embed.py::test_a[x/y::z]") == ENGINES
    config: Any = SimpleNamespace(getoption=lambda name: "worksteal")
    assert pytest_xdist_make_scheduler(config, Producer("")) is None
