"""A server that speaks as much of S3 as reading needs, slowly: `python -m benchmarks.slow_s3 MS MB`.

Each answer waits for so many milliseconds; one connection carries at most so many megabytes a second. Objects are
named by their size: `GET /bucket/<anything>-<bytes>` answers with so many bytes. It prints its address and ends with
its standard input.
"""

import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass

ETAG = "0" * 32
_BLOCK = bytes(range(256)) * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How slow it is."""

    latency_seconds: float
    connection_bytes: float
    """A second."""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: Pace) -> None:
    """Serves one connection."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            asked = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            await asyncio.sleep(pace.latency_seconds)
            size = int(start.split()[1].partition("?")[0].rpartition("-")[2])
            first, last, status = 0, size - 1, "200 OK"
            if asked.get("range"):
                first, last = (int(part) for part in asked["range"].removeprefix("bytes=").split("-"))
                last, status = min(last, size - 1), "206 Partial Content"
            headers = [
                f"HTTP/1.1 {status}",
                f'ETag: "{ETAG}"',
                f"Content-Length: {last - first + 1}",
                f"Content-Range: bytes {first}-{last}/{size}",
                "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT",
            ]
            writer.write("\r\n".join([*headers, "", ""]).encode())
            if not start.startswith("HEAD"):
                await send(writer, last - first + 1, pace)
    writer.close()


async def send(writer: asyncio.StreamWriter, length: int, pace: Pace) -> None:
    """Sends a body at its pace."""
    started, sent = time.monotonic(), 0
    while sent < length:
        part = min(length - sent, len(_BLOCK))
        writer.write(_BLOCK[:part])
        await writer.drain()
        sent += part
        await asyncio.sleep(max(started + sent / pace.connection_bytes - time.monotonic(), 0))


async def serve(pace: Pace) -> None:
    """Listens until standard input ends."""
    server = await asyncio.start_server(lambda reader, writer: answer(reader, writer, pace), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Pace(latency_seconds=float(sys.argv[1]) / 1000, connection_bytes=float(sys.argv[2]) * 1e6)))
