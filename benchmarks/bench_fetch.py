"""How fast items are read, and what memory that takes: `python -m benchmarks.bench_fetch`.

Three tables. Small objects a second by how many are in flight, against s3fs's `cat_file` on as many threads, from a
server that lets each answer wait. One large object: megabytes a second and the reading process's own peak memory. The
memory of worker and decoding child over one large video, by how its bytes reach the child.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import fsspec
import numpy as np

from actors.decode_clip import DecodeRequest, decode_clip
from actors.decode_config import DecodeConfig
from actors.sandbox import Sandbox
from benchmarks.slow_s3 import ETAG
from records.items import CatalogItem
from storage.fetch import FetchConfig, Fetcher
from storage.fetch_room import SpillConfig
from storage.fetched import FetchedMedia

MIB = 2**20
LATENCY_MS, CONNECTION_MB = 30, 60
SMALL_BYTES, SMALL_OBJECTS = 200_000, 192
LARGE_BYTES = 512 * MIB
IN_FLIGHT = (1, 4, 16, 64)
ROUNDS = 3
LARGE_WAYS = ("s3fs", "memory, one request", "memory, parts", "disk, one request", "disk, parts")
HANDOVERS = ("heap", "memory", "disk")


@contextlib.contextmanager
def slow_s3() -> Iterator[None]:
    """The server in a process of its own, and the environment that leads to it."""
    command = [sys.executable, "-m", "benchmarks.slow_s3", str(LATENCY_MS), str(CONNECTION_MB)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": server.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield
        server.stdin.close()


def item(name: str, size_bytes: int) -> CatalogItem:
    """An object of the server."""
    uri = f"s3://bucket/{name}-{size_bytes}"
    return CatalogItem(video_id=name, version=1, uri=uri, size_bytes=size_bytes, etag=ETAG)


def fetch_and_close(fetch: Fetcher, one: CatalogItem) -> None:
    """What a worker does, without the decoding."""
    fetch(one).close()


def small_objects() -> None:
    """Objects a second, the median of rounds that take turns."""
    fetch = Fetcher(FetchConfig())
    s3 = fsspec.filesystem("s3", use_listings_cache=False)
    items = [item(f"clip{number}", SMALL_BYTES) for number in range(SMALL_OBJECTS)]
    ways: dict[str, Callable[[CatalogItem], object]] = {
        "own": lambda one: fetch_and_close(fetch, one),
        "s3fs": lambda one: s3.cat_file(one.uri),
    }
    print(
        f"{SMALL_OBJECTS} objects of {SMALL_BYTES / 1000:.0f} kB, {LATENCY_MS} ms to each answer, "
        f"{CONNECTION_MB} MB/s a connection"
    )
    print(f"{'in flight':>10} {'own /s':>8} {'own MB/s':>9} {'s3fs /s':>8} {'ratio':>6}")
    for threads in IN_FLIGHT:
        part = items if threads > 1 else items[: SMALL_OBJECTS // 4]
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                with ThreadPoolExecutor(threads) as pool:
                    started = time.monotonic()
                    list(pool.map(way, part))
                    rates[name].append(len(part) / (time.monotonic() - started))
        own, other = (float(np.median(rates[name])) for name in ways)
        print(
            f"{threads:>10} {own:>8.0f} {own * SMALL_BYTES / 1e6:>9.0f} {other:>8.0f} {own / other:>6.2f}", flush=True
        )


def large_object(way: str) -> None:
    """One large object in this process; prints megabytes a second and the peak of its own memory."""
    name = item("large", LARGE_BYTES)
    spill = SpillConfig(above_bytes=0 if way.startswith("disk") else LARGE_BYTES)
    config = FetchConfig(spill=spill, part_bytes=LARGE_BYTES if way.endswith("one request") else 16 * MIB)
    fetch, s3 = Fetcher(config), fsspec.filesystem("s3", use_listings_cache=False)
    fetch_and_close(fetch, item("warm", 1000))
    s3.cat_file(item("warm", 1000).uri)
    with Peak(os.getpid()) as peak:
        started = time.monotonic()
        if way == "s3fs":
            assert len(s3.cat_file(name.uri)) == LARGE_BYTES
        else:
            fetch_and_close(fetch, name)
        seconds = time.monotonic() - started
    print(f"{way:>22} {LARGE_BYTES / 1e6 / seconds:>7.0f} {peak.own / MIB:>14.0f}", flush=True)


class Peak:
    """Highest resident memory of some processes while it is open, above what they had when it was opened.

    Shared memory (memfd) counts where it is mapped.
    """

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._before = [_resident(pid) for pid in pids]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.own = self.shared = self.files = 0

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            now = [_resident(pid) for pid in self._pids]
            grown = [
                sum(after[kind] - before[kind] for after, before in zip(now, self._before, strict=True))
                for kind in range(3)
            ]
            self.own, self.shared, self.files = (
                max(old, new) for old, new in zip((self.own, self.shared, self.files), grown, strict=True)
            )

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _resident(pid: int) -> tuple[int, int, int]:
    """Bytes of a process that are its own, shared memory and pages of files."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    own, files, shared = (int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile", "RssShmem"))
    return own, shared, files


def large_video(folder: Path) -> Path:
    """A video of some 500 MB that costs nothing to make: pictures as they are."""
    path = folder / "large.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("rawvideo", rate=30)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 256, (1080, 1280), dtype=np.uint8)
        for index in range(380):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, index, axis=0), format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def handover(way: str, path: Path) -> None:
    """The memory of worker and child over one large video."""
    sandbox = Sandbox(decode_clip, timeout_seconds=120, memory_limit_bytes=3 << 30)
    request = DecodeRequest(config=DecodeConfig(max_frames=4, min_frames=4), video=True, audio=False)
    size = path.stat().st_size
    assert sandbox.child_pid is not None
    with Peak(os.getpid(), sandbox.child_pid) as peak:
        if way == "heap":
            sandbox.run(path.read_bytes(), request)
        else:
            local = CatalogItem(video_id="v", version=1, uri=str(path), size_bytes=size, etag="")
            spill = SpillConfig(above_bytes=size if way == "memory" else 0)
            with Fetcher(FetchConfig(spill=spill))(local) as media:
                assert isinstance(media, FetchedMedia)
                sandbox.run(media, request)
    sandbox.close()
    gigabyte = size / 1e9
    print(
        f"{way:>8} {peak.own / 1e9 / gigabyte:>8.2f} {peak.shared / 1e9 / gigabyte:>8.2f} "
        f"{peak.files / 1e9 / gigabyte:>8.2f}",
        flush=True,
    )


def main() -> None:
    """Prints the tables."""
    if len(sys.argv) == 2:
        return large_object(sys.argv[1])
    if len(sys.argv) == 3:
        return handover(sys.argv[1], Path(sys.argv[2]))
    this = [sys.executable, "-m", "benchmarks.bench_fetch"]
    with slow_s3():
        small_objects()
        print(f"\none object of {LARGE_BYTES // MIB} MiB\n{'way':>22} {'MB/s':>7} {'own peak MiB':>14}", flush=True)
        for way in LARGE_WAYS:
            subprocess.run([*this, way], check=True)
    print("\npeak memory of worker and child for each byte of a large video: their own, shared memory, pages of files")
    print(f"{'held in':>8} {'own':>8} {'shared':>8} {'files':>8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = large_video(Path(folder))
        for way in HANDOVERS:
            subprocess.run([*this, way, str(path)], check=True)
    return None


if __name__ == "__main__":
    main()
