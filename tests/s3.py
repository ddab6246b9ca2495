"""A real S3 server on loopback for tests: moto's, behind a gate that counts requests and can refuse them."""

import io
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import boto3
import fsspec
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"

Gate = Callable[[WSGIEnvironment], tuple[int, str] | None]
Edit = Callable[[WSGIEnvironment, list[tuple[str, str]]], list[tuple[str, str]]]


class S3Server:
    """The server. Requests are answered one at a time, so that conditional writes are atomic as S3's are."""

    _names = itertools.count()  # of the class: moto's buckets are the process's, whichever server made them

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        """(method, path) of every request so far."""
        self.gate: Gate | None = None
        """Asked before each request: (status, S3 error code) refuses it."""
        self.lose_answer: Gate | None = None
        """Asked after each request was carried out: (status, S3 error code) is sent instead of its answer."""
        self.edit_headers: Edit | None = None
        """Gives the headers that are sent in place of the true ones."""
        self.slow_body: threading.Event | None = None
        """Bodies stop half-way until this is set."""
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The body is read before the lock is taken: a client killed while it sends must not stop the others.
        if environ.get("CONTENT_LENGTH"):
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        with self._lock:
            self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            refusal = self.gate(environ) if self.gate is not None else None
            if refusal is None:
                refusal = self.lose_answer(environ) if self.lose_answer is not None else None
                answer = list(self._app(environ, self._edited(environ, start_response) if not refusal else _swallow))
                if refusal is None:
                    return answer if self.slow_body is None else _stalling(answer, self.slow_body)
        status, code = refusal
        start_response(f"{status} Refused", [("Content-Type", "application/xml")])
        return [_ERROR.format(code=code).encode()]

    def _edited(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:  # noqa: ANN401 - a StartResponse
        def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], object]:
            return start_response(status, self.edit_headers(environ, headers) if self.edit_headers else headers)

        return start

    def client(self) -> Any:  # noqa: ANN401 - boto3 ships no types
        """A boto3 client: a second implementation to look at the store with."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing-secret",
        )

    def bucket(self) -> str:
        """Makes a bucket; returns its URI."""
        name = f"bucket-{next(self._names)}"
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def fill(self, uri: str, keys: Iterable[str]) -> None:
        """Puts empty objects into a bucket without a request for each."""
        for key in keys:
            self.put_unasked(uri, key, b"")

    def put_unasked(self, uri: str, key: str, data: bytes) -> None:
        """Puts an object into a bucket without a request: a gate may do that."""
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(uri.removeprefix("s3://"), key, data)

    def close(self) -> None:
        """Stops the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @contextmanager
    def refusing(self, gate: Gate) -> Iterator[None]:
        """Asks this gate before each request."""
        self.gate = gate
        try:
            yield
        finally:
            self.gate = None


def _swallow(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], object]:
    """Takes the place of `start_response` for an answer that is lost."""
    return lambda data: None


def _stalling(answer: list[bytes], release: threading.Event) -> Iterator[bytes]:
    """The answer's first half at once, and the rest when released."""
    data = b"".join(answer)
    yield data[: len(data) // 2]
    release.wait()
    yield data[len(data) // 2 :]


def forget_connections() -> None:
    """Makes the next S3 call read the environment anew: fsspec keeps one connection a process."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server a session; the environment points at it, for child processes too."""
    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        forget_connections()
        yield server
        forget_connections()
    server.close()


@pytest.fixture
def new_connections(s3_server: S3Server) -> Iterator[None]:
    """For tests that change the environment: S3 connections are made anew in the test, and again behind it."""
    forget_connections()
    yield
    forget_connections()


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """A fresh bucket's URI."""
    return s3_server.bucket()
