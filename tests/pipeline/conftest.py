"""One Ray for all tests of the graph, and another for drivers that are killed."""

from collections.abc import Iterator

import pytest
import ray

from pipeline.graph import GraphConfig
from pipeline.ray_session import LocalRayConfig, ray_session
from tests.faulty_proxy import FaultyProxy
from tests.pipeline.ray_host import ray_host
from tests.s3 import S3Server, s3_server  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def light_ray() -> Iterator[None]:
    """Ray in this process, with room for every light pool at once."""
    with ray_session(LocalRayConfig(num_cpus=4, object_store_bytes=512 * 2**20), GraphConfig()):
        yield
    assert not ray.is_initialized()


@pytest.fixture(scope="session")
def s3_proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:  # noqa: F811 - the fixture
    """Stands between the drivers and S3; breaks nothing unless told to."""
    proxy = FaultyProxy(s3_server.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def drivers_ray(s3_proxy: FaultyProxy) -> Iterator[dict[str, str]]:
    """The environment for drivers that are processes of their own: one Ray for all of them, its workers reach S3."""
    with ray_host(AWS_ENDPOINT_URL=s3_proxy.endpoint) as environment:  # workers have what Ray was started with
        yield environment
