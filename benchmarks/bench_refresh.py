"""What a nightly refresh costs: time, memory and temporary disk, of a listing that has grown by 1 %.

    python -m benchmarks.bench_refresh [items] [folder]

Lists so many generated items, each with a title, into a catalog on the local disk, then the same with 1 % new, 0.1 %
changed and 0.1 % deleted, then the same once more; each in a fresh process. The listing itself is made up as it is
read: what a store's own listing takes is not in it. CPU seconds are the process's own, so that other work on the
machine does not count. Bytes of temporary disk are the most that the folder held, looked at ten times a second.
"""

import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from records.items import Metadata
from storage.catalog_change import CatalogChange
from storage.catalog_refresh import refresh
from storage.source_items import SourceItem
from storage.stores import Store

SHARD_SIZE = 512


def items(first: int, stop: int, *, night: int) -> Iterator[SourceItem]:
    """The listing of a night: of every thousand items one has changed since the first and one has gone."""
    for number in range(first, stop):
        if night and number % 1000 == 1:
            continue
        name = f"clips/2026/{number // 1000:06d}/{number:09d}"
        yield SourceItem(
            video_id=name,
            uri=f"s3://bucket-of-a-team/{name}.mp4",
            size_bytes=4_000_000,
            etag=f"{number + (night if number % 1000 == 2 else 0):032x}",
            metadata=Metadata(title=f"What happened at {number} on the beach", extra={"views": str(number % 1000)}),
        )


class DiskWatch:
    """The most bytes that a folder held."""

    def __init__(self, folder: Path) -> None:
        self.most = 0
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            held = 0
            for path, _, names in os.walk(self._folder):
                for name in names:
                    try:
                        held += os.stat(os.path.join(path, name)).st_size
                    except FileNotFoundError:
                        continue
            self.most = max(self.most, held)

    def close(self) -> int:
        """Ends the watch; the bytes."""
        self._over.set()
        self._thread.join()
        return self.most


def measure(folder: str, count: int, night: int) -> tuple[CatalogChange, dict[str, float]]:
    """One listing in this process."""
    spill = Path(folder) / "tmp"
    spill.mkdir(exist_ok=True)
    tempfile.tempdir = str(spill)
    watch = DiskWatch(spill)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    stop = count + (count // 100 if night else 0)
    change = refresh(Store.open(f"{folder}/out"), items(0, stop, night=night), None, "s3://x", SHARD_SIZE, lambda _: 1)
    found = {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "disk": watch.close() / 2**20,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "more": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024,
    }
    assert not list(spill.iterdir()), "a refresh leaves nothing on the temporary disk"
    return change, found


def apart(
    function: Callable[..., tuple[CatalogChange, dict[str, float]]], *arguments: object
) -> tuple[CatalogChange, dict[str, float]]:
    """In a process of its own, whose peak memory is its alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main(count: int = 2_000_000, parent: str | None = None) -> None:
    """Prints a line a listing."""
    folder = tempfile.mkdtemp(prefix="bench-refresh-", dir=parent)
    try:
        print(f"{count:,} items with titles, shards of {SHARD_SIZE}")
        print(f"{'':<26} {'wall s':>7} {'CPU s':>6} {'µs CPU/item':>11} {'peak MiB':>9} {'more':>10} {'disk MiB':>9}")
        for name, night in (("first listing", 0), ("grown by 1 %", 1), ("the same once more", 1)):
            change, found = apart(measure, folder, count, night)
            print(
                f"{name:<26} {found['wall']:>7.0f} {found['cpu']:>6.0f} {found['cpu'] / count * 1e6:>11.0f} "
                f"{found['peak']:>9.0f} {found['more']:>10.0f} {found['disk']:>9.0f}   {change.new} new, "
                f"{change.changed} changed, {change.deleted} deleted, {change.unchanged} unchanged", flush=True,
            )  # fmt: skip
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*(kind(argument) for kind, argument in zip((int, str), sys.argv[1:3], strict=False)))
