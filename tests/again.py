"""How much tests that kill, or break requests, saw done again: told when all are over, whether they passed or not."""

from collections.abc import Callable, Iterable, Mapping

import pytest

RecordProperty = Callable[[str, object], None]
"""Pytest's fixture `record_property`."""

PROPERTY = "done again"


def record_again(record_property: RecordProperty, runs: int, done: Mapping[str, list[str]]) -> None:
    """Keeps for the end which share of the rows was done again.

    Args:
        record_property: Of the test.
        runs: That did the rows together.
        done: Stage to the ids of the rows it did, each as often as it was done.
    """
    shares = [f"{stage} {len(ids) / len(set(ids)) - 1:.0%}" for stage, ids in done.items()]
    record_property(PROPERTY, f"{runs} {'run' if runs == 1 else 'runs'}, {', '.join(shares)}")


def lines_of(reports: Iterable[object]) -> list[str]:
    """A line for each test that kept something, of all that pytest has reports of."""
    calls = [report for report in reports if isinstance(report, pytest.TestReport) and report.when == "call"]
    return [f"{report.nodeid}: {told}" for report in calls for name, told in report.user_properties if name == PROPERTY]
