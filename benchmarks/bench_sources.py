"""What listing and reading cost: requests and bytes an item for tars and Parquet, and a million empty files.

    python -m benchmarks.bench_sources [--files N]

Requests and bytes do not depend on the machine; times do, so beside them stands what they are worth at 30 ms a request
and 100 MB/s.
"""

import argparse
import io
import os
import random
import resource
import tarfile
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from records.items import CatalogItem
from storage.fetch import FetchConfig, Fetcher
from storage.source_items import SourceItem
from storage.source_objects import SourceObject
from storage.source_webdataset import tar_items
from storage.sources import open_source
from storage.stores import Store

LATENCY_SECONDS = 0.03
BYTES_PER_SECOND = 100e6


class Counter:
    """Counts what a store is asked for."""

    def __init__(self, store: Store) -> None:
        self.requests = 0
        self.bytes = 0
        self._read_range = store._backend.read_range
        store._backend.read_range = self._counted  # type: ignore[method-assign]

    def _counted(self, path: str, start: int, end: int) -> bytes:
        data = self._read_range(path, start, end)
        self.requests += 1
        self.bytes += len(data)
        return data


def tar_line(folder: Path, size: int, members: int) -> str:
    """One line on indexing a tar whose videos have this size."""
    path = folder / "a.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(members):
            for name, data in ((f"{number:06d}.json", b'{"title": "x"}'), (f"{number:06d}.mp4", bytes(size))):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    store = Store.open(str(folder))
    counter = Counter(store)
    source = SourceObject(store=store, entry=store.entry("a.tar"), uri=str(path))
    start = time.monotonic()
    found = sum(isinstance(entry, SourceItem) for entry in tar_items(source))
    seconds = time.monotonic() - start
    whole = path.stat().st_size
    path.unlink()
    assert found == members
    ours = counter.requests * LATENCY_SECONDS + counter.bytes / BYTES_PER_SECOND
    through = whole / 4 / 1024**2 * LATENCY_SECONDS + whole / BYTES_PER_SECOND
    return (
        f"{size:>10,} bytes a video: {counter.requests / found:6.3f} requests and {counter.bytes / found:9,.0f} bytes "
        f"an item, {counter.bytes / whole:6.1%} of the tar; {found / seconds:8,.0f} items/s here; "
        f"time of reading the tar through relative to ours {through / ours:.2f}"
    )


def parquet_line(folder: Path, rows: int, group: int, size: int, workers: int) -> str:
    """One line on reading every row of a file, dealt out to some workers in blocks of eight."""
    chosen = random.Random(0)
    table = pa.table(
        {"id": [str(number) for number in range(rows)], "video": [chosen.randbytes(size) for _ in range(rows)]}
    )
    path = folder / "a.parquet"
    pq.write_table(table, path, row_group_size=group)
    items = [item for item in open_source(str(path)).items() if isinstance(item, SourceItem)]
    fetchers = [Fetcher(FetchConfig()) for _ in range(workers)]
    asked: list[int] = []
    for fetch in fetchers:
        read = fetch._cells._read

        def counted(part: CatalogItem, read=read) -> bytes:  # type: ignore[no-untyped-def]  # noqa: ANN001 - bound above
            asked.append(part.size_bytes or 0)
            data: bytes = read(part)
            return data

        fetch._cells._read = counted
    start = time.monotonic()
    for number, item in enumerate(items):
        fetchers[number // 8 % workers](
            CatalogItem(
                video_id=item.video_id,
                version=1,
                uri=item.uri,
                size_bytes=None,
                etag=item.etag,
                row_index=item.row_index,
                column=item.column,
            )
        )
    seconds = time.monotonic() - start
    path.unlink()
    naive = group * size * rows
    return (
        f"{workers} workers, row groups of {group} rows of {size:,} bytes: {len(asked) / rows:6.3f} requests and "
        f"{sum(asked) / rows:10,.0f} bytes an item ({sum(asked) / rows / size:.2f} times its own); a read of the row "
        f"group for each row would be {naive / sum(asked):.0f} times that; {rows / seconds:6.0f} rows/s here"
    )


def files_line(folder: Path, files: int) -> str:
    """One line on listing a folder tree of empty files."""
    for number in range(files):
        if number % 1000 == 0:
            (folder / f"{number // 1000:06d}").mkdir()
        os.close(os.open(folder / f"{number // 1000:06d}" / f"{number:09d}.mp4", os.O_CREAT | os.O_WRONLY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    found = sum(isinstance(entry, SourceItem) for entry in open_source(str(folder)).items())
    seconds = time.monotonic() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return f"{found:,} empty files: {found / seconds:,.0f} items/s, peak memory grew by {grown / 1024:.0f} MB"


def main() -> None:
    """Prints a line for each case."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--files", type=int, default=1_000_000, help="empty files to list")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size, members in ((2_000, 20_000), (20_000, 5_000), (200_000, 1_000), (2_000_000, 200)):
            print(tar_line(folder, size, members))
        for workers in (1, 4):
            for group in (16, 128):
                print(parquet_line(folder, 256, group, 200_000, workers))
        (folder / "files").mkdir()
        print(files_line(folder / "files", options.files))


if __name__ == "__main__":
    main()
