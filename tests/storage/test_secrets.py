"""No credential appears in an error, however deep the one that caused it, nor in a log at any level that we set."""

import logging
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from jobs.cli import console_and_logging
from jobs.listing import list_into_catalog
from records.errors import BadItemError, ReelscribeError, UserError
from records.items import CatalogItem
from storage.catalog import Catalog
from storage.catalog_refresh import refresh
from storage.faults import RetryConfig, redact
from storage.fetch import FetchConfig, Fetcher
from storage.signed_urls import unsigned
from storage.source_items import SourceItem
from storage.sources import open_source
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.catalog_model import contents_of
from tests.storage.conftest import QUICK

KEY, SECRET, TOKEN = "AKIAWHOCANREADTHIS", "s3cr3t/OfTheAccount", "tokenOfTheSession"
PASSWORD, SIGNATURE = "pa55w0rd", "51gnature0fTheUrl"
SECRETS = (KEY, SECRET, TOKEN, PASSWORD, SIGNATURE)
ONCE = RetryConfig(attempts=2, first_wait_seconds=0.0)


class Refusing(BaseHTTPRequestHandler):
    """Answers with the status that the path names, saying everything it was told."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/").partition("/")[0]))
        self.send_header("Location", f"/200{self.path}")
        self.end_headers()
        self.wfile.write(f"{self.path} {self.headers}".encode())

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def credentials(s3_server: S3Server, new_connections: None, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log as `--verbose` has it."""
    root = logging.getLogger()
    before = root.handlers, root.level
    console_and_logging(verbose=True)
    root.handlers = [*root.handlers, caplog.handler]
    yield caplog
    root.handlers, level = before
    root.setLevel(level)


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def fetch_error(uri: str) -> str:
    """Everything that Python would print of the error."""
    item = CatalogItem(video_id="a", version=1, uri=uri, size_bytes=5, etag="e")
    with pytest.raises(BadItemError) as caught:
        Fetcher(FetchConfig(retry=ONCE))(item)
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 416, 429, 500, 503])
def test_urls_with_passwords_and_signatures(web: str, said: pytest.LogCaptureFixture, status: int) -> None:
    for host in (f"user:{PASSWORD}@{web}", web):
        text = fetch_error(f"http://{host}/{status}/a.mp4?X-Amz-Signature={SIGNATURE}&X-Amz-Security-Token={TOKEN}")
        assert leaks(text) == []
        assert status < 400 or f"http://{web}/{status}/a.mp4" in text
    assert leaks(said.text) == []


def test_hosts_that_do_not_answer_and_urls_that_are_none(said: pytest.LogCaptureFixture) -> None:
    for uri in (
        f"http://user:{PASSWORD}@127.0.0.1:9/a.mp4?sig={SIGNATURE}",
        f"http://user:{PASSWORD}@[::1/a.mp4?sig={SIGNATURE}",
        f"http://user:{PASSWORD}@no-such-host.invalid/a.mp4?sig={SIGNATURE}",
        f"ftp://user:{PASSWORD}@127.0.0.1:9/a.mp4",
        f"nope://user:{PASSWORD}@host/a?sig={SIGNATURE}",
    ):
        assert leaks(fetch_error(uri)) == [], uri
        assert leaks(redact(uri)) == []
        try:
            listed = str(list(Store.open(uri, retry=ONCE).list()))
        except (ReelscribeError, OSError, ValueError) as error:
            listed = "".join(traceback.format_exception(error))
        assert leaks(listed) == [], uri
    assert leaks(said.text) == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDenied"),
        (403, "SignatureDoesNotMatch"),
        (400, "ExpiredToken"),
        (500, "InternalError"),
        (503, "SlowDown"),
    ],
)
def test_credentials_of_the_environment(
    s3_server: S3Server, credentials: pytest.MonkeyPatch, said: pytest.LogCaptureFixture, status: int, code: str
) -> None:
    with s3_server.refusing(lambda environ: (status, code)):
        assert leaks(fetch_error("s3://bucket/a.mp4")) == []
        with pytest.raises(ReelscribeError) as caught:
            Store.open("s3://bucket/out", retry=QUICK)
        assert leaks("".join(traceback.format_exception(caught.value))) == []
    assert leaks(said.text) == []


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        (f"http://user:{PASSWORD}@127.0.0.1:9", "HTTPClientError"),
        (f"http://127.0.0.1:9/{PASSWORD}", "EndpointConnectionError"),
    ],
)
def test_a_password_in_the_endpoint(
    credentials: pytest.MonkeyPatch, said: pytest.LogCaptureFixture, endpoint: str, error: str
) -> None:
    credentials.setenv("AWS_ENDPOINT_URL", endpoint)
    text = fetch_error("s3://bucket/a.mp4")
    assert error in text, "it was asked"
    assert leaks(text) == []
    with pytest.raises(ReelscribeError, match=error) as caught:
        Store.open("s3://bucket/out", retry=QUICK)
    assert leaks("".join(traceback.format_exception(caught.value))) == []
    assert leaks(said.text) == []


@pytest.mark.parametrize(
    ("uri", "shown", "kept"),
    [
        ("abfs://videos@acct.dfs.core.windows.net/p", "abfs://videos@acct.dfs.core.windows.net/p", None),
        (f"sftp://user:{PASSWORD}@host:22/p", "sftp://user@host:22/p", None),
        (f"ftp://user:{PASSWORD}/{PASSWORD}@host/p", "ftp://host/p", None),
        (f"FTP://user:{PASSWORD}@{PASSWORD}@host/p?q", "FTP://user@host/p", "FTP://user@host/p?q"),
        (f"s3://{KEY}:{SECRET}@bucket/x?", "s3://bucket/x?", None),
        (f"S3A://{KEY}@bucket/x@y", "S3A://bucket/x@y", None),
        (f"s3://{KEY}:{TOKEN}", "s3://…", None),
        ("s3://bucket/x@y:z", "s3://bucket/x@y:z", None),
        ("s3://arn:aws:s3:eu:1:accesspoint/n/k", "s3://arn:aws:s3:eu:1:accesspoint/n/k", None),
        (f"HTTPS://u:{PASSWORD}@h:8/a?X-Amz-Signature={SIGNATURE}&v=1", "HTTPS://h:8/a", "HTTPS://h:8/a?v=1"),
        (f"http://u:{PASSWORD}@[::1/a", "http://…", "http://[::1/a"),
        ("https://h/a?u=http://x:y@z", "https://h/a", "https://h/a?u=http://x:y@z"),
        ("/folder/a:b@c", "/folder/a:b@c", None),
        ("github://org:repo@main/videos", "github://org:repo@main/videos", None),
    ],
)
def test_what_is_shown_and_what_is_kept_of_a_uri(uri: str, shown: str, kept: str | None) -> None:
    assert redact(uri) == shown
    assert unsigned(uri) == (shown if kept is None else kept)
    assert unsigned(unsigned(uri)) == unsigned(uri)


@pytest.mark.parametrize(
    ("uri", "instead"),
    [
        (f"memory://user:{PASSWORD}@host/v", "FSSPEC_MEMORY_PASSWORD"),
        (f"s3://{KEY}:{SECRET}@bucket/v", "AWS_ACCESS_KEY_ID"),
        (f"SFTP://user:{PASSWORD}@host/v", "FSSPEC_SFTP_PASSWORD"),
    ],
)
def test_a_password_in_the_uri_of_a_store_is_refused(uri: str, instead: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=instead) as caught:
        Store.open(uri)
    assert leaks("".join(traceback.format_exception(caught.value))) == []
    output = Store.open(str(tmp_path))
    for known in (False, True):
        if known:
            refresh(output, [SourceItem(video_id="a", uri="/a", size_bytes=1, etag="")], None, "/in", 9, lambda one: 0)
        with pytest.raises(UserError) as caught:
            list_into_catalog(output, source=uri, metadata=None, shard_size=2, refresh_known=True)
        assert leaks("".join(traceback.format_exception(caught.value))) == []
    assert leaks(str(contents_of(output))) == []


def test_a_user_without_password_is_part_of_an_address() -> None:
    store = Store.open("memory://container@account/in")
    store.create("a.mp4", b"12345")
    (item,) = (one for one in open_source("memory://container@account/in").items() if isinstance(one, SourceItem))
    assert item.uri == "memory://container@account/in/a.mp4"
    wanted = CatalogItem(video_id="a", version=1, uri=item.uri, size_bytes=5, etag="")
    assert Fetcher(FetchConfig())(wanted).read_bytes() == b"12345"


@pytest.mark.parametrize("folder", ["a#b", "a?b", "a?b#c"])
def test_marks_in_a_folders_name_are_part_of_it(folder: str, said: pytest.LogCaptureFixture) -> None:
    store = Store.open(f"memory://out/{folder}")
    store.create("v.mp4", b"12345")
    (item,) = (one for one in open_source(store.root).items() if isinstance(one, SourceItem))
    assert item.uri == f"memory://out/{folder}/v.mp4"
    wanted = CatalogItem(video_id="v", version=1, uri=item.uri, size_bytes=5, etag="")
    assert Fetcher(FetchConfig())(wanted).read_bytes() == b"12345"
    assert "memory://out/a: no conditional replace" in said.text


def test_a_list_with_passwords_keeps_them_in_its_locations_alone(tmp_path: Path) -> None:
    lines = [f"HTTPS://h/a.mp4?X-Amz-Signature={SIGNATURE}", f"ftp://u:{PASSWORD}@h/b", f"s3://{KEY}:{SECRET}@bucket/c"]
    text = "".join(f"{number},{uri}\n" for number, uri in enumerate(lines))
    (tmp_path / "l.csv").write_text(f"id,uri\n{text}")
    output = Store.open(str(tmp_path / "out"))
    list_into_catalog(output, source=str(tmp_path / "l.csv"), metadata=None, shard_size=9, refresh_known=False)
    catalog = Catalog.open(output)
    assert catalog is not None
    uris = [item.uri for item in catalog.read_shard("00000000")]
    assert uris == ["HTTPS://h/a.mp4", "ftp://u@h/b", "s3://bucket/c"]
    assert list(catalog.locations("00000000").values()) == lines


def test_verbose_makes_no_library_talk(said: pytest.LogCaptureFixture) -> None:
    for name in ("botocore", "botocore.auth", "aiobotocore", "s3fs", "fsspec", "aiohttp", "urllib3", "httpx"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO), name
    assert logging.getLogger("storage.fetch").isEnabledFor(logging.DEBUG)
