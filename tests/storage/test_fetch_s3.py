"""Items on S3: large ones in parts of one version, on disk past a size, never another content than the catalog's."""

import errno
import itertools
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from wsgiref.types import WSGIEnvironment

import psutil
import pytest

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.fetch import FetchConfig, Fetcher
from storage.fetch_room import SpillConfig
from storage.stores import Store
from tests.s3 import Edit, S3Server
from tests.storage.conftest import QUICK

DATA = os.urandom(100_003)
PART = 16_384
PARTS = -(-len(DATA) // PART)


@pytest.fixture
def config(tmp_path: Path) -> FetchConfig:
    """Parts and a spill folder small enough for small objects."""
    return FetchConfig(retry=QUICK, part_bytes=PART, spill=SpillConfig(above_bytes=50_000, folder=str(tmp_path)))


@pytest.fixture
def item(s3_bucket: str) -> CatalogItem:
    store = Store.open(s3_bucket, retry=QUICK)
    store.create("clip.mp4", DATA)
    (entry,) = store.list()
    uri = store.uri("clip.mp4")
    return CatalogItem(video_id="clip", version=1, uri=uri, size_bytes=len(DATA), etag=entry.etag)


def read(item: CatalogItem, config: FetchConfig) -> bytes:
    with Fetcher(config)(item) as media:
        return media.read_bytes()


def failure(item: CatalogItem, config: FetchConfig) -> BadItemError:
    before = psutil.Process().num_fds()
    with pytest.raises(BadItemError) as caught:
        Fetcher(config)(item)
    files = [file.path for file in psutil.Process().open_files() if Path(file.path).name.startswith("reelscribe-")]
    assert files == [], "nothing stays behind"
    assert psutil.Process().num_fds() <= before + 8, "connections apart"
    return caught.value


@contextmanager
def editing(server: S3Server, edit: Edit) -> Iterator[None]:
    server.edit_headers = edit
    try:
        yield
    finally:
        server.edit_headers = None


def with_etag(headers: list[tuple[str, str]], etag: str) -> list[tuple[str, str]]:
    return [(name, f'"{etag}"' if name.lower() == "etag" else value) for name, value in headers]


@pytest.mark.parametrize("spilled", [True, False])
@pytest.mark.parametrize("start", [None, 0, 777])
def test_large_objects_come_in_parts(
    s3_server: S3Server, item: CatalogItem, config: FetchConfig, spilled: bool, start: int | None
) -> None:
    if not spilled:
        config = replace(config, spill=SpillConfig())
    size = len(DATA) if start is None else 60_000
    asked: list[tuple[str, str]] = []

    def note(environ: WSGIEnvironment) -> None:
        asked.append((environ.get("HTTP_RANGE", ""), environ.get("HTTP_IF_MATCH", "")))

    with s3_server.refusing(note):
        assert read(replace(item, byte_offset=start, size_bytes=size), config) == DATA[start or 0 :][:size]
    assert len(asked) == -(-size // PART)
    assert all(etag == f'"{item.etag}"' for _, etag in asked)
    ends = sorted((int(first), int(last)) for first, last in (said[6:].split("-") for said, _ in asked))
    assert [first for first, _ in ends] == list(range(start or 0, (start or 0) + size, PART))


def test_the_last_parts_are_asked_for_at_once(s3_server: S3Server, item: CatalogItem, config: FetchConfig) -> None:
    """Bodies stop half-way until several have begun: one after the other would never end."""
    release, begun = threading.Event(), itertools.count(1)

    def note(environ: WSGIEnvironment) -> None:
        number = next(begun)
        s3_server.slow_body = release if number > 1 else None
        if number == 1 + config.parts_at_once:
            release.set()

    try:
        with s3_server.refusing(note):
            assert read(item, config) == DATA
    finally:
        s3_server.slow_body = None


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError")])
def test_each_part_is_retried_by_itself(
    s3_server: S3Server, item: CatalogItem, config: FetchConfig, status: int, code: str
) -> None:
    tries: dict[str, int] = {}

    def gate(environ: WSGIEnvironment) -> tuple[int, str] | None:
        asked = environ.get("HTTP_RANGE", "")
        tries[asked] = tries.get(asked, 0) + 1
        return (status, code) if tries[asked] < QUICK.attempts else None

    with s3_server.refusing(gate):
        assert read(item, config) == DATA
    assert list(tries.values()) == [QUICK.attempts] * PARTS

    with s3_server.refusing(
        lambda environ: (status, code) if "bytes=32768-" in environ.get("HTTP_RANGE", "") else None
    ):
        error = failure(item, config)
    assert error.kind is (FailureKind.THROTTLED if status == 503 else FailureKind.UNREACHABLE)
    assert code in str(error)


@pytest.mark.parametrize("whole", [True, False])
def test_an_overwritten_object_is_changed_at_the_first_request(
    s3_server: S3Server, item: CatalogItem, config: FetchConfig, whole: bool
) -> None:
    other = bytes(reversed(DATA))
    s3_server.client().put_object(Bucket=item.uri[5:].partition("/")[0], Key="clip.mp4", Body=other)
    if whole:
        config = replace(config, part_bytes=1 << 20)
    start = len(s3_server.requests)
    assert failure(item, config).kind is FailureKind.CHANGED
    assert len(s3_server.requests) - start == 1, "the store itself says so"


@pytest.mark.parametrize("known", [True, False])
def test_parts_of_two_versions_are_never_mixed(
    s3_server: S3Server, item: CatalogItem, config: FetchConfig, known: bool
) -> None:
    requests = itertools.count()

    def gate(environ: WSGIEnvironment) -> None:
        if next(requests) == 3:
            s3_server.put_unasked(item.uri.removesuffix("/clip.mp4"), "clip.mp4", b"x" * len(DATA))

    with s3_server.refusing(gate):
        error = failure(item if known else replace(item, etag=""), replace(config, parts_at_once=1))
    assert error.kind is FailureKind.CHANGED


def test_one_wrong_etag_is_looked_at_again_and_the_same_twice_is_changed(
    s3_server: S3Server, item: CatalogItem, config: FetchConfig
) -> None:
    config = replace(config, part_bytes=1 << 20)
    tries = itertools.count()

    def once(environ: WSGIEnvironment, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return with_etag(headers, "wrong") if next(tries) == 0 else headers

    with editing(s3_server, once):
        assert read(item, config) == DATA
    assert next(tries) == 2

    with editing(s3_server, lambda environ, headers: with_etag(headers, f"wrong-{next(tries)}")):
        error = failure(item, config)
    assert error.kind is FailureKind.CHANGED, "never right, and never twice the same"
    with editing(s3_server, lambda environ, headers: with_etag(headers, "another")):
        start = len(s3_server.requests)
        error = failure(item, config)
    assert (error.kind, len(s3_server.requests) - start) == (FailureKind.CHANGED, 2)
    assert "ETag another where the catalog has" in str(error)


def test_a_range_behind_the_end_is_changed(item: CatalogItem, config: FetchConfig) -> None:
    assert failure(replace(item, byte_offset=200_000, size_bytes=100), config).kind is FailureKind.CHANGED
    assert failure(replace(item, byte_offset=90_000, size_bytes=50_000), config).kind is FailureKind.CHANGED


def test_a_stall_in_one_part_costs_that_part(s3_server: S3Server, item: CatalogItem, config: FetchConfig) -> None:
    release, tries = threading.Event(), itertools.count()

    def stall_third(environ: WSGIEnvironment) -> None:
        s3_server.slow_body = release if next(tries) == 2 else None

    try:
        with s3_server.refusing(stall_third):
            limits = replace(config.limits, stall_seconds=1.5)
            assert read(item, replace(config, limits=limits, parts_at_once=1)) == DATA
    finally:
        s3_server.slow_body = None
        release.set()
    assert next(tries) == PARTS + 1


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file of this process may grow past 60 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("no_room")
def test_no_room_to_set_a_video_aside_is_said_before_anything_is_read(
    s3_server: S3Server, item: CatalogItem, config: FetchConfig, tmp_path: Path
) -> None:
    start = len(s3_server.requests)
    error = failure(item, config)
    assert error.kind is FailureKind.NO_SPACE
    assert str(tmp_path) in str(error)
    assert os.strerror(errno.EFBIG) in str(error)
    assert len(s3_server.requests) == start
    missing = replace(config, spill=replace(config.spill, folder=str(tmp_path / "gone")))
    assert failure(item, missing).kind is FailureKind.NO_SPACE
    small = read(replace(item, byte_offset=0, size_bytes=50_000), config)
    assert small == DATA[:50_000], "in memory there is room"
