"""No credential appears in an error, however deep the one that caused it, nor in a log at any level that we set."""

import logging
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from jobs.cli import console_and_logging
from records.errors import BadItemError, ReelscribeError
from records.items import CatalogItem
from storage.faults import RetryConfig, redact
from storage.fetch import FetchConfig, Fetcher
from storage.stores import Store
from tests.s3 import S3Server
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
    credentials.setenv("AWS_ENDPOINT_URL", f"http://user:{PASSWORD}@127.0.0.1:9")
    assert leaks(said.text) == []


def test_verbose_makes_no_library_talk(said: pytest.LogCaptureFixture) -> None:
    for name in ("botocore", "botocore.auth", "aiobotocore", "s3fs", "fsspec", "aiohttp", "urllib3", "httpx"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO), name
    assert logging.getLogger("storage.fetch").isEnabledFor(logging.DEBUG)
