"""Reading items: the right bytes or the right kind of failure, and nothing read that need not be."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from wsgiref.types import WSGIEnvironment

import pytest

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.faults import TimeLimits
from storage.fetch import FetchConfig, Fetcher
from storage.fetch_room import SpillConfig
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.conftest import QUICK

DATA = bytes(range(256)) * 40
CONFIG = FetchConfig(max_bytes=20_000, retry=QUICK, limits=TimeLimits(stall_seconds=20))


def stored(store: Store, name: str = "clips/a b+ä.mp4", data: bytes = DATA) -> CatalogItem:
    store.create(name, data)
    (entry,) = store.list(name)
    return CatalogItem(video_id=name, version=1, uri=store.uri(name), size_bytes=entry.size_bytes, etag=entry.etag)


def read(item: CatalogItem, config: FetchConfig = CONFIG) -> bytes:
    with Fetcher(config)(item) as media:
        return media.read_bytes()


def kind_of(item: CatalogItem, config: FetchConfig = CONFIG) -> FailureKind:
    with pytest.raises(BadItemError) as caught:
        Fetcher(config)(item)
    assert "\n" not in str(caught.value)
    return caught.value.kind


def test_whole_objects_and_byte_ranges(store: Store) -> None:
    item = stored(store)
    assert read(item) == DATA
    assert read(replace(item, byte_offset=100, size_bytes=300)) == DATA[100:400]
    assert read(replace(item, byte_offset=0, size_bytes=0)) == b""
    assert read(stored(store, "empty.mp4", b"")) == b""


def test_file_uris(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(DATA)
    item = CatalogItem(video_id="a", version=1, uri=f"file://{tmp_path}/a.mp4", size_bytes=len(DATA), etag="")
    assert read(item) == DATA


def test_too_large_is_refused_before_anything_is_read(s3_server: S3Server, s3_bucket: str) -> None:
    item = stored(Store.open(s3_bucket))
    start = len(s3_server.requests)
    assert kind_of(item, FetchConfig(max_bytes=len(DATA) - 1)) is FailureKind.TOO_LARGE
    assert len(s3_server.requests) == start
    assert read(item, FetchConfig(max_bytes=len(DATA))) == DATA
    assert len(s3_server.requests) == start + 1, "one request an item"


def test_changed_content_is_told(store: Store) -> None:
    item = stored(store)
    assert kind_of(replace(item, size_bytes=len(DATA) - 1)) is FailureKind.CHANGED
    assert kind_of(replace(item, etag="12-345")) is FailureKind.CHANGED
    assert kind_of(replace(item, etag="12-345", byte_offset=0, size_bytes=5)) is FailureKind.CHANGED
    assert kind_of(replace(item, byte_offset=len(DATA) - 5, size_bytes=10)) is FailureKind.CHANGED
    assert read(replace(item, etag="")) == DATA


def test_a_large_local_file_is_opened_and_not_copied(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    item = stored(store)
    large = replace(CONFIG, spill=SpillConfig(above_bytes=1000))
    with Fetcher(large)(replace(item, byte_offset=100, size_bytes=5000)) as media:
        assert os.path.samestat(os.fstat(media.descriptor), os.stat(item.uri))
        assert media.read_bytes() == DATA[100:5100]
        media.verify()
        with open(item.uri, "r+b") as file:
            file.write(b"other")
        os.utime(item.uri, (1, 1))  # a clock too coarse to tell the two writes apart
        with pytest.raises(BadItemError, match="where the catalog has"):
            media.verify()


def test_an_object_that_grew_is_not_read(s3_server: S3Server, s3_bucket: str) -> None:
    store = Store.open(s3_bucket)
    item = stored(store)
    s3_server.client().put_object(Bucket=s3_bucket[5:], Key=item.video_id, Body=b"x" * 50_000)
    assert kind_of(replace(item, etag="")) is FailureKind.CHANGED


def test_missing_and_forbidden(store: Store, s3_server: S3Server) -> None:
    item = stored(store)
    assert kind_of(replace(item, uri=item.uri + ".gone")) is FailureKind.NOT_FOUND
    assert kind_of(replace(item, uri=item.uri.rpartition("/")[0])) is FailureKind.NOT_FOUND
    assert kind_of(replace(item, uri="s3://no-such-bucket-here/x")) is FailureKind.NOT_FOUND
    assert kind_of(replace(item, uri="nope://x/y")) is FailureKind.UNSUPPORTED
    if item.uri.startswith("s3://"):
        with s3_server.refusing(lambda environ: (403, "AccessDenied")):
            assert kind_of(item) is FailureKind.FORBIDDEN


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", FailureKind.THROTTLED),
        (500, "InternalError", FailureKind.UNREACHABLE),
        (400, "RequestTimeout", FailureKind.TIMEOUT),
        (400, "ExpiredToken", FailureKind.FORBIDDEN),
        (400, "KMS.DisabledException", FailureKind.FORBIDDEN),
    ],
)
def test_transient_faults_are_retried_and_then_named(
    s3_server: S3Server, s3_bucket: str, status: int, code: str, kind: FailureKind
) -> None:
    item = stored(Store.open(s3_bucket))
    tries: list[int] = []

    def gate(environ: WSGIEnvironment) -> tuple[int, str] | None:
        tries.append(1)
        return status, code

    with s3_server.refusing(gate):
        assert kind_of(item) is kind
    assert len(tries) == (1 if kind is FailureKind.FORBIDDEN else QUICK.attempts)

    def once(environ: WSGIEnvironment) -> tuple[int, str] | None:
        tries.append(1)
        return (503, "SlowDown") if len(tries) == 1 else None

    tries.clear()
    with s3_server.refusing(once):
        assert read(item) == DATA
    assert len(tries) == 2


def test_a_body_that_stalls_times_out(s3_server: S3Server, s3_bucket: str) -> None:
    item = stored(Store.open(s3_bucket))
    release = threading.Event()
    s3_server.slow_body = release
    try:
        config = FetchConfig(limits=TimeLimits(stall_seconds=0.2), retry=QUICK)
        assert kind_of(item, config) is FailureKind.TIMEOUT
    finally:
        s3_server.slow_body = None
        release.set()


def test_many_threads_share_one_fetcher(store: Store) -> None:
    items = [stored(store, f"{number}.mp4", os.urandom(1000) + bytes([number])) for number in range(30)]
    fetch = Fetcher(CONFIG)
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(fetch, items))
    assert [media.read_bytes()[-1] for media in found] == list(range(30))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_other_file_systems(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(DATA)
    item = CatalogItem(video_id="a", version=1, uri="", size_bytes=len(DATA), etag="")
    with served(tmp_path) as address:
        assert read(replace(item, uri=f"http://{address}/a.mp4")) == DATA
        assert kind_of(replace(item, uri=f"http://{address}/b.mp4")) is FailureKind.NOT_FOUND
        assert kind_of(replace(item, uri=f"http://{address}/a.mp4", size_bytes=3)) is FailureKind.CHANGED
        with pytest.raises(BadItemError) as caught:
            Fetcher(CONFIG)(replace(item, uri=f"http://{address}/b.mp4?signature=SECRET"))
        assert "SECRET" not in str(caught.value)
    memory = Store.open("memory://fetch")
    memory.create("a.mp4", DATA)
    assert read(replace(item, uri=memory.uri("a.mp4"))) == DATA
    assert read(replace(item, uri=memory.uri("a.mp4"), byte_offset=5, size_bytes=9)) == DATA[5:14]
    assert read(replace(item, uri=memory.uri("a.mp4")), replace(CONFIG, part_bytes=1000)) == DATA


def test_config_is_checked() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        FetchConfig(max_bytes=0)
