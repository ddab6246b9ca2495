"""One Ray for all drivers that are processes of their own, what stands between them and S3, and reports undrawn."""

from collections.abc import Iterator

import pytest

from tests.faulty_proxy import FaultyProxy
from tests.pipeline.ray_host import ray_host
from tests.s3 import S3Server


@pytest.fixture(scope="session")
def s3_proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    """Stands between the drivers and S3; breaks nothing unless told to."""
    proxy = FaultyProxy(s3_server.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def drivers_ray(s3_proxy: FaultyProxy) -> Iterator[dict[str, str]]:
    """The environment for drivers that are processes of their own: one Ray for all of them, its workers reach S3."""
    with ray_host(AWS_ENDPOINT_URL=s3_proxy.endpoint) as environment:  # workers have what Ray was started with
        yield environment


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the plots out of a release's report: drawing takes longer than all the rest of a small publish."""
    monkeypatch.setattr("pipeline.release_report.plots", lambda evidence, sample: {})
