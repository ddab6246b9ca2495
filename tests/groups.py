"""Which tests run in one process where they run in several: those that share what is slow to start."""

from collections.abc import Collection
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ENGINES = "engines"
"""Alone at a time also for what is looked for on the whole machine: what engines that were killed leave in it."""
HOSTS = ("light_ray", "drivers_ray")
"""Fixtures that start Ray."""


def group_of(path: Path, fixtures: Collection[str]) -> str:
    """The group of a test: that of what it starts, else its file.

    Args:
        path: Its file.
        fixtures: Names of all that it uses, also through others.
    """
    if "described" in fixtures or path.is_relative_to(ROOT / "tests" / "actors"):
        return ENGINES
    return next((host for host in HOSTS if host in fixtures), path.stem)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test for xdist's `--dist loadgroup`; nothing else looks at the mark."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group(group_of(item.path, fixtures)))
