"""Fixtures that every test may use: tiny models, built once and kept between runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.tiny import ensure_tiny
from tests.web import web  # noqa: F401 - a fixture

TinyModels = Callable[[str], Path]


@pytest.fixture(scope="session", autouse=True)
def _offline() -> None:
    """No test may reach for a model hub."""
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tiny_models() -> TinyModels:
    """A function from a tiny model's name to its folder."""
    cache_dir = Path(__file__).resolve().parents[1] / ".cache" / "tiny"
    return lambda name: ensure_tiny(name, cache_dir)
