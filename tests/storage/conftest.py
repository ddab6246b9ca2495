"""Stores to test on: a local folder and a bucket on a real S3 server."""

from pathlib import Path

import pytest

from storage.faults import RetryConfig
from storage.stores import Store

QUICK = RetryConfig(attempts=4, first_wait_seconds=0.01, max_wait_seconds=0.02)
"""Retries that do not keep a test waiting."""


@pytest.fixture(params=["local", "s3"])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store's URI, of each kind that gives all guarantees."""
    if request.param == "local":
        return str(tmp_path / "out")
    return f"{request.getfixturevalue('s3_bucket')}/out"


@pytest.fixture
def store(store_uri: str) -> Store:
    """The same, opened."""
    return Store.open(store_uri, retry=QUICK)
