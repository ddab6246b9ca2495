"""One Ray for all tests of the graph."""

from collections.abc import Iterator

import pytest
import ray

from pipeline.graph import GraphConfig
from pipeline.ray_session import LocalRayConfig, ray_session


@pytest.fixture(scope="session")
def light_ray() -> Iterator[None]:
    """Ray in this process, with room for every light pool at once."""
    with ray_session(LocalRayConfig(num_cpus=4, object_store_bytes=512 * 2**20), GraphConfig()):
        yield
    assert not ray.is_initialized()
