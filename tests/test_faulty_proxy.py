"""The proxy breaks what it says and passes the rest: else the tests that stand on it prove nothing."""

import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.faulty_proxy import Fault, FaultyProxy
from tests.s3 import S3Server

DATA = bytes(range(256)) * 1000
SEEDS = range(40)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(s3_server.endpoint)
    yield proxy
    proxy.close()


def get(proxy: FaultyProxy, path: str) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection(str(urlsplit(proxy.endpoint).netloc), timeout=0.3)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(), str(answer.getheader("ETag"))
    finally:
        connection.close()


def outcome(proxy: FaultyProxy, path: str, etag: str) -> str:
    """What a client that knows nothing of the proxy takes a request for."""
    try:
        status, data, said = get(proxy, path)
    except TimeoutError:
        return "stall"
    except ConnectionResetError:
        return "reset"
    except http.client.IncompleteRead as error:
        return "truncated body" if DATA.startswith(error.partial) else "garbage"
    if status != 200:
        return str(status)
    assert data == DATA
    return "good" if said == etag else "wrong etag"


def test_each_kind_of_fault_is_seen_by_the_client_as_what_it_is(s3_server: S3Server, proxy: FaultyProxy) -> None:
    bucket = s3_server.bucket()
    s3_server.client().put_object(Bucket=bucket[5:], Key="x", Body=DATA, ACL="public-read")
    path = f"/{bucket[5:]}/x"
    status, data, etag = get(proxy, path)
    assert (status, data) == (200, DATA)
    seen: set[str] = set()
    for seed in SEEDS:
        with proxy.breaking(1.0, seed):
            said = outcome(proxy, path, etag)
            assert dict(proxy.faults) == {Fault(said): 1}
            again = outcome(proxy, path, etag)
            assert proxy.requests == 2
        with proxy.breaking(1.0, seed):
            assert [outcome(proxy, path, etag), outcome(proxy, path, etag)] == [said, again], "the seed decides"
        seen.add(said)
        if len(seen) == len(Fault):
            break
    assert seen == set(Fault)
    assert get(proxy, path) == (200, DATA, etag)


def test_the_share_is_kept(s3_server: S3Server, proxy: FaultyProxy) -> None:
    with proxy.breaking(0.25, 7):
        for number in range(60):
            try:
                get(proxy, f"/nothing/{number}")
            except (OSError, http.client.HTTPException):
                continue
        broken = proxy.faults.total()
    assert proxy.requests == 60
    assert 8 <= broken <= 22
