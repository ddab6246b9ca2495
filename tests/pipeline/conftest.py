"""One Ray for all tests of the graph, and another for drivers that are killed."""

from collections.abc import Iterator

import pytest
import ray

from pipeline.graph import GraphConfig
from pipeline.ray_session import LocalRayConfig, ray_session
from tests.pipeline.ray_host import ray_host
from tests.s3 import s3_server  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def light_ray() -> Iterator[None]:
    """Ray in this process, with room for every light pool at once."""
    with ray_session(LocalRayConfig(num_cpus=4, object_store_bytes=512 * 2**20), GraphConfig()):
        yield
    assert not ray.is_initialized()


@pytest.fixture(scope="session")
def drivers_ray(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment for drivers that are processes of their own: one Ray for all of them, its workers reach S3."""
    request.getfixturevalue("s3_server")  # workers have the environment in which Ray was started
    with ray_host() as environment:
        yield environment
