"""Reads over http(s), plain or presigned: one request a call, redirects followed, nothing of a URL in any message.

Errors are OSErrors that `storage.faults.classify` understands. No credential is forwarded: a redirect to another host
gets no `Authorization` header, and one from https to http is refused.
"""

import logging
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from records.errors import BadItemError, FailureKind
from storage.faults import HttpStatusError, IncompleteReadError, TimeLimits

_REDIRECTS = 5

Write = Callable[[bytes, int], None]
"""Takes the next bytes of a body and where in it they begin."""


class NoRangesError(BadItemError):
    """The server sent the whole object where a range of it was asked for; nothing of it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """What a server said before the body."""

    size_bytes: int | None
    """Length of the whole object; None where the server does not say."""
    body_bytes: int | None
    """Length of this reply's body."""
    etag: str
    """The ETag without quotes, else Last-Modified, else empty."""


class HttpClient:
    """Connections of one process, shared and kept. Safe for threads.

    Args:
        limits: How long a request may take.
        connections: How many are kept at most; further requests wait.
    """

    def __init__(self, limits: TimeLimits, *, connections: int = 64) -> None:
        # The client logs every URL, signature included.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._limits = limits
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(limits.stall_seconds, connect=limits.connect_seconds, pool=None),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"Accept-Encoding": "identity", "User-Agent": "reelscribe"},
            follow_redirects=False,
        )
        # Nobody closes it: a process keeps it, with its connections, as long as whatever fetches through it.
        weakref.finalize(self, self._client.close)

    def facts(self, url: str) -> HttpReply:
        """Size and ETag, by a request for the first byte: a presigned URL allows GET alone."""
        with self._get(url, "bytes=0-0") as response:
            if response.status_code == 416:  # an empty object has no first byte
                return HttpReply(size_bytes=0, body_bytes=0, etag=_etag(response))
            return _reply(response)

    def read(
        self,
        url: str,
        *,
        start: int | None = None,
        end: int | None = None,
        accept: Callable[[HttpReply], None] = lambda reply: None,
        max_bytes: int,
    ) -> bytes:
        """The whole object, or bytes [start, end) of it, in memory; the arguments and errors are those of `stream`."""
        data = bytearray()

        def take(reply: HttpReply) -> Write:
            accept(reply)
            return lambda chunk, position: data.extend(chunk)

        self.stream(url, start=start, end=end, accept=take, max_bytes=max_bytes)
        return bytes(data)

    def stream(
        self,
        url: str,
        *,
        start: int | None = None,
        end: int | None = None,
        accept: Callable[[HttpReply], Write],
        max_bytes: int,
    ) -> int:
        """The whole object, or bytes [start, end) of it, bit by bit.

        Args:
            url: Plain or presigned.
            start: First byte; None for the whole.
            end: The byte behind the last; None for the whole.
            accept: Sees the reply before the body is read and gives what takes the body; may raise.
            max_bytes: Most that is read: a server need not say how long a body is.

        Returns:
            How many bytes came.

        Raises:
            BadItemError: `too_large`.
            NoRangesError: The server does not serve ranges.
            IncompleteReadError: The body ended early.
            TimeoutError: It was not complete in time.
        """
        wanted = None if start is None or end is None else f"bytes={start}-{end - 1}"
        deadline = time.monotonic() + self._limits.request_seconds
        with self._get(url, wanted) as response:
            if wanted is not None and response.status_code == 416:
                raise BadItemError(FailureKind.CHANGED, "the object ends before this range")
            if wanted is not None and response.status_code != 206:
                raise NoRangesError(FailureKind.UNSUPPORTED, "the server does not serve ranges of bytes")
            reply = _reply(response)
            return _body(response, reply, accept(reply), max_bytes, deadline)

    @contextmanager
    def _get(self, url: str, wanted: str | None) -> Iterator[httpx2.Response]:
        headers = {} if wanted is None else {"Range": wanted}
        try:
            request = self._client.build_request("GET", url, headers=headers)
            for _ in range(_REDIRECTS + 1):
                response = self._client.send(request, stream=True)
                try:
                    if response.next_request is None:
                        _check_status(response.status_code)
                        yield response
                        return
                    if request.url.scheme == "https" and response.next_request.url.scheme != "https":
                        raise BadItemError(FailureKind.UNSUPPORTED, "redirected from https to http")
                    request = response.next_request
                finally:
                    response.close()
        except httpx2.TimeoutException:
            raise TimeoutError from None
        except httpx2.RemoteProtocolError:
            raise IncompleteReadError from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError):
            raise BadItemError(FailureKind.UNSUPPORTED, "no usable URL") from None
        except httpx2.TransportError as error:
            raise ConnectionError(type(error).__name__) from None
        raise BadItemError(FailureKind.UNSUPPORTED, f"more than {_REDIRECTS} redirects")


def _check_status(status: int) -> None:
    if status not in (200, 206, 416):
        raise HttpStatusError(status)


def _body(response: httpx2.Response, reply: HttpReply, write: Write, max_bytes: int, deadline: float) -> int:
    position = 0
    for chunk in response.iter_raw():
        if position + len(chunk) > max_bytes:
            raise BadItemError(FailureKind.TOO_LARGE, f"more than {max_bytes} bytes")
        write(chunk, position)
        position += len(chunk)
        if time.monotonic() > deadline:
            raise TimeoutError
    if reply.body_bytes is not None and position != reply.body_bytes:
        raise IncompleteReadError(f"{position} of {reply.body_bytes} bytes")
    return position


def _reply(response: httpx2.Response) -> HttpReply:
    length = response.headers.get("Content-Length", "")
    body_bytes = int(length) if length.isdecimal() else None
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    size = body_bytes if response.status_code == 200 else int(total) if total.isdecimal() else None
    return HttpReply(size_bytes=size, body_bytes=body_bytes, etag=_etag(response))


def _etag(response: httpx2.Response) -> str:
    etag: str = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    return etag.removeprefix("W/").strip('"')
