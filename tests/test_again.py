"""What is told of work that was done again."""

from typing import Literal

import pytest

from tests.again import lines_of, record_again

NODE = "tests/test_kills.py::test_kill"


def report(when: Literal["setup", "call", "teardown"], properties: list[tuple[str, object]]) -> pytest.TestReport:
    return pytest.TestReport(NODE, ("", 0, ""), {}, "passed", None, when, user_properties=properties)


def test_each_test_has_a_line_with_its_runs_and_the_share_of_each_stage() -> None:
    kept: list[tuple[str, object]] = [("other", 1)]
    record_again(lambda name, value: kept.append((name, value)), 2, {"decode": list("abca"), "caption": list("ab")})
    reports = [object(), report("setup", kept), report("call", kept), report("call", []), report("teardown", kept)]
    assert lines_of(reports) == [f"{NODE}: 2 runs, decode 33%, caption 0%"]
