"""Reading over http: the right bytes or the right kind of failure, and no signature in any word that is said."""

import hashlib
import logging
from dataclasses import replace
from typing import Any

import pytest

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.fetch import FetchConfig, Fetcher
from storage.http_client import HttpClient
from tests.storage.conftest import QUICK
from tests.web import WebServer, serving

DATA = bytes(range(256)) * 40
ETAG = hashlib.md5(DATA).hexdigest()
CONFIG = FetchConfig(max_bytes=20_000, retry=QUICK)


@pytest.fixture
def item(web: WebServer) -> CatalogItem:
    web.objects["/v/a b.mp4"] = DATA
    return CatalogItem(video_id="a", version=1, uri=web.url("/v/a%20b.mp4"), size_bytes=len(DATA), etag=ETAG)


@pytest.fixture
def served(web: WebServer) -> WebServer:
    web.objects["/v/a%20b.mp4"] = DATA
    return web


def read(item: CatalogItem, config: FetchConfig = CONFIG) -> bytes:
    with Fetcher(config)(item) as media:
        return media.read_bytes()


def kind_of(item: CatalogItem, config: FetchConfig = CONFIG) -> FailureKind:
    with pytest.raises(BadItemError) as caught:
        Fetcher(config)(item)
    assert "\n" not in str(caught.value)
    return caught.value.kind


def test_whole_objects_and_ranges(served: WebServer, item: CatalogItem) -> None:
    assert read(item) == DATA
    assert read(replace(item, size_bytes=None, etag="")) == DATA
    assert read(replace(item, byte_offset=100, size_bytes=300)) == DATA[100:400]
    assert read(replace(item, byte_offset=0, size_bytes=0)) == b""
    assert len(served.requests) == 3, "one request an item, none for an empty range"


LARGE = replace(CONFIG, part_bytes=3000, parts_at_once=2)


@pytest.mark.parametrize("etag", [ETAG, ""])
def test_a_large_object_comes_in_ranges_each_tried_again_by_itself(
    served: WebServer, item: CatalogItem, etag: str
) -> None:
    served.cut = 1
    assert read(replace(item, etag=etag), LARGE) == DATA
    ranges = [headers["Range"] for _, headers in served.requests]
    assert ranges[:2] == ["bytes=0-2999"] * 2
    assert sorted(ranges[2:]) == ["bytes=3000-5999", "bytes=6000-8999", f"bytes=9000-{len(DATA) - 1}"]


def test_a_large_member_of_a_tar_comes_in_ranges_too(served: WebServer, item: CatalogItem) -> None:
    assert read(replace(item, byte_offset=100, size_bytes=7000), LARGE) == DATA[100:7100]
    ranges = [headers["Range"] for _, headers in served.requests]
    assert ranges[0] == "bytes=100-3099"
    assert sorted(ranges[1:]) == ["bytes=3100-6099", "bytes=6100-7099"]
    served.etags = False
    assert read(replace(item, byte_offset=100, size_bytes=7000, etag=""), LARGE) == DATA[100:7100]
    served.ranges = False
    assert kind_of(replace(item, byte_offset=100, size_bytes=7000, etag=""), LARGE) is FailureKind.UNSUPPORTED


@pytest.mark.parametrize("lacking", ["ranges", "etags"])
def test_without_ranges_or_etags_a_large_object_comes_in_one_request(
    served: WebServer, item: CatalogItem, lacking: str
) -> None:
    setattr(served, lacking, False)
    assert read(replace(item, etag=""), LARGE) == DATA
    assert [headers.get("Range") for _, headers in served.requests] == ["bytes=0-2999", None]


@pytest.mark.parametrize("etag", [ETAG, "", "Fri, 27 Nov 2026 03:00:00 GMT"])
def test_ranges_of_two_versions_are_never_one_item(
    served: WebServer, item: CatalogItem, etag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = HttpClient.stream

    def overwritten(client: HttpClient, url: str, **of: Any) -> int:  # noqa: ANN401 - as the method takes them
        came = stream(client, url, **of)
        served.objects["/v/a%20b.mp4"] = DATA[::-1]
        return came

    monkeypatch.setattr(HttpClient, "stream", overwritten)
    assert kind_of(replace(item, etag=etag), LARGE) is FailureKind.CHANGED


def test_what_differs_from_the_catalog_is_changed(served: WebServer, item: CatalogItem) -> None:
    assert kind_of(replace(item, size_bytes=len(DATA) - 1)) is FailureKind.CHANGED
    assert kind_of(replace(item, etag="other")) is FailureKind.CHANGED
    assert kind_of(replace(item, etag="other", byte_offset=0, size_bytes=5)) is FailureKind.CHANGED
    assert kind_of(replace(item, byte_offset=len(DATA) + 5, size_bytes=5)) is FailureKind.CHANGED
    served.length = False
    assert kind_of(replace(item, size_bytes=len(DATA) + 1)) is FailureKind.CHANGED


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [
        (404, FailureKind.NOT_FOUND, 1),
        (410, FailureKind.NOT_FOUND, 1),
        (401, FailureKind.FORBIDDEN, 1),
        (403, FailureKind.FORBIDDEN, 1),
        (429, FailureKind.THROTTLED, QUICK.attempts),
        (503, FailureKind.THROTTLED, QUICK.attempts),
        (500, FailureKind.UNREACHABLE, QUICK.attempts),
        (504, FailureKind.TIMEOUT, QUICK.attempts),
    ],
)
def test_statuses_become_kinds(
    served: WebServer, item: CatalogItem, status: int, kind: FailureKind, requests: int
) -> None:
    served.statuses = [status] * 10
    assert kind_of(item) is kind
    assert len(served.requests) == requests


def test_a_fault_that_passes_costs_a_request(served: WebServer, item: CatalogItem) -> None:
    served.statuses = [503]
    assert read(item) == DATA
    served.cut = 1
    assert read(item) == DATA
    assert len(served.requests) == 4
    served.cut = 10
    assert kind_of(item) is FailureKind.UNREACHABLE


def test_a_size_that_nobody_said_is_limited_while_it_is_read(served: WebServer, item: CatalogItem) -> None:
    unknown = replace(item, size_bytes=None, etag="")
    tight = FetchConfig(max_bytes=len(DATA) - 1, retry=QUICK)
    assert kind_of(unknown, tight) is FailureKind.TOO_LARGE
    assert served.sent_bytes <= len(DATA)
    served.length = False
    assert kind_of(unknown, tight) is FailureKind.TOO_LARGE
    assert read(unknown) == DATA


def test_a_server_without_ranges_is_told(served: WebServer, item: CatalogItem) -> None:
    served.ranges = False
    assert kind_of(replace(item, byte_offset=1, size_bytes=5)) is FailureKind.UNSUPPORTED


def test_redirects_are_followed_and_forward_no_credentials(served: WebServer, item: CatalogItem) -> None:
    with serving() as elsewhere:
        elsewhere.objects["/moved.mp4"] = DATA
        served.redirects["/old.mp4"] = elsewhere.url("/moved.mp4")
        served.redirects["/loop.mp4"] = "/loop.mp4"
        secret = f"http://user:SECRET@127.0.0.1:{served.port}/old.mp4?X-Amz-Signature=SECRET"
        assert read(replace(item, uri=secret)) == DATA
        assert "Authorization" in served.requests[0][1]
        ((path, headers),) = elsewhere.requests
        assert path == "/moved.mp4"
        assert "SECRET" not in str(headers)
        assert "Authorization" not in headers
    assert kind_of(replace(item, uri=served.url("/loop.mp4"))) is FailureKind.UNSUPPORTED


def test_no_signature_is_ever_said(served: WebServer, item: CatalogItem, caplog: pytest.LogCaptureFixture) -> None:
    served.signature = "SECRET"
    signed = replace(item, uri=served.signed("/v/a%20b.mp4", "SECRET"))
    with caplog.at_level(logging.DEBUG):
        assert read(signed) == DATA
        for uri in (
            served.signed("/v/absent", "SECRET"),
            served.signed("/v/a%20b.mp4", "SECRET-of-yesterday"),
            "http://[x]SECRET",
            "http://127.0.0.1:1/x?X-Amz-Signature=SECRET",
            "https://user:SECRET@127.0.0.1:1/x",
        ):
            with pytest.raises(BadItemError) as caught:
                Fetcher(CONFIG)(replace(item, uri=uri))
            assert "SECRET" not in str(caught.value)
        assert kind_of(replace(item, uri=served.signed("/v/a%20b.mp4", "old"))) is FailureKind.FORBIDDEN
    assert "SECRET" not in caplog.text


def test_a_host_that_is_not_there_is_unreachable(item: CatalogItem) -> None:
    assert kind_of(replace(item, uri="http://127.0.0.1:1/a.mp4")) is FailureKind.UNREACHABLE
    assert kind_of(replace(item, uri="http:///a.mp4")) is FailureKind.UNSUPPORTED
