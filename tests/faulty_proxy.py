"""A proxy before an S3 server that breaks some of what passes, on the level of bytes and sockets.

Whether and how a request breaks follows from the seed, the request and how often it was sent, not from the order in
which clients happen to come.
"""

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

_XML = "<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>"


class Fault(StrEnum):
    """The ways in which a request fails."""

    SLOW_DOWN = "503"
    INTERNAL_ERROR = "500"
    RESET = "reset"
    """The connection is reset, before the request was carried out or before its answer came."""
    STALL = "stall"
    """Nothing comes any more, likewise."""
    TRUNCATED = "truncated body"
    """Half of the answer, under the length of all of it."""
    WRONG_ETAG = "wrong etag"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """A request or an answer."""

    start: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for found, value in self.headers if found.lower() == name), "")

    def encode(self) -> bytes:
        lines = [self.start, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


class FaultyProxy:
    """Listens on loopback, on a thread of its own; passes everything through until told to break some of it.

    Args:
        upstream: `http://host:port` of the server.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream.removeprefix("http://").split(":")
        self._share, self._seed = 0.0, 0
        self._seen: Counter[str] = Counter()
        self.requests = 0
        """Requests that came in, also those that broke."""
        self.faults: Counter[Fault] = Counter()
        """How many broke, by kind."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20), self._loop
        ).result()
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @contextlib.contextmanager
    def breaking(self, share: float, seed: int) -> Iterator[None]:
        """Breaks this share of the requests; counts anew."""
        self.requests, self.faults, self._seen = 0, Counter(), Counter()
        self._share, self._seed = share, seed
        try:
            yield
        finally:
            self._share = 0.0

    def close(self) -> None:
        """Stops it and cuts what is open."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (request := await _request(reader, writer)) is not None:
                if not await self._answer(request, reader, writer):
                    break
        writer.close()

    async def _answer(self, request: _Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Sends an answer, or breaks it; whether the connection may be used again."""
        fault, after = self._draw(request)
        if fault is not None:
            self.faults[fault] += 1
        if fault in (Fault.SLOW_DOWN, Fault.INTERNAL_ERROR):
            writer.write(_error(*_CODES[fault]))
            await writer.drain()
            return True
        if fault in (Fault.RESET, Fault.STALL) and not after:
            return await _break(fault, reader, writer)
        answer = await self._forward(request)
        if fault in (Fault.RESET, Fault.STALL):
            return await _break(fault, reader, writer)
        if fault is Fault.WRONG_ETAG:
            answer = _with_etag(answer, random.Random(f"{self._seed} {self.requests}").randbytes(16).hex())
        data = answer.encode()
        if fault is Fault.TRUNCATED:
            writer.write(data[: len(data) - (len(answer.body) + 1) // 2 if answer.body else len(data) // 2])
            await writer.drain()
            return False
        writer.write(data)
        await writer.drain()
        return True

    def _draw(self, request: _Message) -> tuple[Fault | None, bool]:
        """How a request breaks, or None; and whether that comes after it was carried out."""
        self.requests += 1
        key = f"{request.start} {request.header('range')}"
        self._seen[key] += 1
        digest = hashlib.blake2b(f"{self._seed} {key} {self._seen[key]}".encode(), digest_size=8).digest()
        luck = random.Random(digest)
        if luck.random() >= self._share:
            return None, False
        has_etag = request.start.startswith(("GET", "HEAD", "PUT")) and "list-type" not in request.start
        kinds = [kind for kind in Fault if has_etag or kind is not Fault.WRONG_ETAG]
        return luck.choice(kinds), luck.random() < 0.5

    async def _forward(self, request: _Message) -> _Message:
        """The server's answer, whole."""
        reader, writer = await asyncio.open_connection(*self._upstream, limit=2**20)
        try:
            hidden = ("connection", "expect")
            headers = [(name, value) for name, value in request.headers if name.lower() not in hidden]
            headers.append(("Connection", "close"))
            writer.write(_Message(start=request.start, headers=headers, body=request.body).encode())
            start, headers = await _head(reader)
            body = await reader.read()
        finally:
            writer.close()
        kept = [(name, value) for name, value in headers if name.lower() not in ("connection", "transfer-encoding")]
        if not any(name.lower() == "content-length" for name, _ in kept):
            kept.append(("Content-Length", str(len(body))))
        return _Message(start=start.replace("HTTP/1.0", "HTTP/1.1"), headers=kept, body=body)


_CODES = {Fault.SLOW_DOWN: (503, "SlowDown"), Fault.INTERNAL_ERROR: (500, "InternalError")}


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Message | None:
    """The next request of a connection, or None where it has ended."""
    try:
        start, headers = await _head(reader)
    except asyncio.IncompleteReadError:
        return None
    message = _Message(start=start, headers=headers, body=b"")
    if message.header("expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(int(message.header("content-length") or 0))
    assert not message.header("transfer-encoding"), "no client here sends chunks"
    return _Message(start=start, headers=headers, body=body)


async def _head(reader: asyncio.StreamReader) -> tuple[str, list[tuple[str, str]]]:
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return start, [(name, value.strip()) for name, _, value in pairs]


async def _break(fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Resets the connection, or says nothing until the client gives up."""
    if fault is Fault.STALL:
        while await reader.read(2**16):
            pass
    else:
        # To linger for no time at all is what makes closing send a reset.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    return False


def _error(status: int, code: str) -> bytes:
    body = _XML.format(code=code).encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    return _Message(start=f"HTTP/1.1 {status} {code}", headers=headers, body=body).encode()


def _with_etag(answer: _Message, etag: str) -> _Message:
    headers = [(name, f'"{etag}"' if name.lower() == "etag" else value) for name, value in answer.headers]
    return _Message(start=answer.start, headers=headers, body=answer.body)
