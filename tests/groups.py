"""Which test files run in one process where tests run in several: those that share what is slow to start.

For `--dist loadfile`. xdist's own groups (3.8) do not work with pytest 9.2: they were told by a node's id, which can no
longer be changed.
"""

from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parents[1]

ENGINES = "engines"
"""Alone at a time also for what is looked for on the whole machine: what engines that were killed leave in it."""
SHARED = (("described: Described", ENGINES), ("drivers_ray", "drivers_ray"), ("light_ray", "light_ray"))
"""What a file says that uses a fixture, and the group of such files: the first that fits."""


def group_of(path: str) -> str:
    """The group of a test file, by what its tests start; the file itself where they start nothing that others do.

    Args:
        path: From the project's folder on.
    """
    if path.startswith("tests/actors/"):
        return ENGINES
    text = (ROOT / path).read_text()
    return next((group for says, group in SHARED if says in text), path)


class GroupScheduling(LoadFileScheduling):  # type: ignore[misc]
    """Gives a worker whole groups of files, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling | None:
    """In place of xdist's scheduling by file."""
    return GroupScheduling(config, log) if config.getoption("dist") == "loadfile" else None
