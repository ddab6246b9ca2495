"""Fixtures that every test may use: tiny models, built once and kept between runs. What is told after all tests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from models.tiny import ensure_tiny
from tests.again import lines_of
from tests.gpu import pytest_runtest_setup  # noqa: F401 - a hook
from tests.s3 import new_connections, s3_bucket, s3_server  # noqa: F401 - fixtures, here alone: one server a session
from tests.web import web  # noqa: F401 - a fixture

TinyModels = Callable[[str], Path]

settings.register_profile("busy machine", deadline=None)  # no test asserts seconds, those of hypothesis neither
settings.load_profile("busy machine")


@pytest.fixture(scope="session", autouse=True)
def _offline() -> None:
    """No test may reach for a model hub."""
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def tiny_models() -> TinyModels:
    """A function from a tiny model's name to its folder."""
    cache_dir = Path(__file__).resolve().parents[1] / ".cache" / "tiny"
    return lambda name: ensure_tiny(name, cache_dir)


@pytest.fixture(scope="session")
def light_ray() -> Iterator[None]:
    """Ray in this process, one for all tests, with room for every light pool at once and a GPU that is only counted."""
    import ray  # here: most tests can do without, and it takes a second

    from pipeline.graph import GraphConfig
    from pipeline.ray_session import LocalRayConfig, ray_session
    from tests.pipeline.scraping import METRICS_MS

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", str(METRICS_MS))
        with ray_session(LocalRayConfig(num_cpus=4, num_gpus=1, object_store_bytes=512 * 2**20), GraphConfig()):
            yield
    assert not ray.is_initialized()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells which share of the work was done again, where tests killed something."""
    lines = lines_of(report for reports in terminalreporter.stats.values() for report in reports)
    if lines:
        terminalreporter.section("work done again")
    for line in lines:
        terminalreporter.line(line)
