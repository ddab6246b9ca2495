"""A real web server on loopback for tests: ranges, ETags, redirects, expiring signatures, and answers gone wrong."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest


@dataclass
class WebServer:
    """What it serves, and how."""

    objects: dict[str, bytes] = field(default_factory=dict)
    """Path to content."""
    redirects: dict[str, str] = field(default_factory=dict)
    """Path to where it is sent instead."""
    statuses: list[int] = field(default_factory=list)
    """What the next requests get instead of an answer."""
    signature: str | None = None
    """Where set, requests without `X-Amz-Signature` of this value are refused."""
    ranges: bool = True
    etags: bool = True
    length: bool = True
    """Whether a reply says how long it is."""
    cut: int = 0
    """So many of the next bodies end half-way."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of every request so far."""
    sent_bytes: int = 0
    port: int = 0

    def url(self, path: str, query: str = "") -> str:
        """The address of an object."""
        return f"http://127.0.0.1:{self.port}{path}" + (f"?{query}" if query else "")

    def signed(self, path: str, signature: str) -> str:
        """Its address as S3 presigns it."""
        return self.url(path, f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&X-Amz-Signature={signature}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def do_GET(self) -> None:
        web = self.web
        parts = urlsplit(self.path)
        web.requests.append((self.path, dict(self.headers.items())))
        if web.statuses:
            return self._empty(web.statuses.pop(0))
        if parts.path in web.redirects:
            return self._empty(302, Location=web.redirects[parts.path])
        if web.signature is not None and parse_qs(parts.query).get("X-Amz-Signature") != [web.signature]:
            return self._empty(403)
        data = web.objects.get(parts.path)
        if data is None:
            return self._empty(404)
        etag = hashlib.md5(data).hexdigest()
        wanted = self.headers.get("Range", "").removeprefix("bytes=")
        if not wanted or not web.ranges:
            return self._send(200, data, etag)
        start, end = wanted.split("-")
        if int(start) >= len(data):
            return self._empty(416)
        part = data[int(start) : int(end) + 1]
        return self._send(206, part, etag, f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}")

    def _send(self, status: int, data: bytes, etag: str, content_range: str = "") -> None:
        self.send_response(status)
        if self.web.etags:
            self.send_header("ETag", f'"{etag}"')
        if content_range:
            self.send_header("Content-Range", content_range)
        if self.web.length:
            self.send_header("Content-Length", str(len(data)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.web.cut:
            self.web.cut -= 1
            data = data[: len(data) // 2]
            self.close_connection = True
        self.web.sent_bytes += len(data)
        self.wfile.write(data)

    def _empty(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the test's terminal."""


@contextmanager
def serving() -> Iterator[WebServer]:
    """A server of its own."""
    web = WebServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": web}))
    server.daemon_threads = True
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A fresh web server."""
    with serving() as server:
        yield server
