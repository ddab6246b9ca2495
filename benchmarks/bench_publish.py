"""Rows and megabytes a second of a publish, and its peak memory, which must not grow with the size.

    python -m benchmarks.bench_publish [items] [items] ...

Each size runs in a process of its own, every task in that process one after the other, on a local folder: what one CPU
slot of a cluster does. Vectors are float16 with 1,024 numbers in four views; parts hold 8 MB, row groups 256 rows.
"""

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from storage.stores import Store
from tests.pipeline.publishing import publish
from tests.pipeline.stage_maker import Maker, ids_of, publish_config

DIMENSION = 1024
SIZES = (1000, 2000, 4000, 8000)
PART_BYTES = 8 * 2**20


def make(uri: str, items: int) -> None:
    """Stage tables of so many items, in shards of 256."""
    maker = Maker(store=Store.open(uri), dtype="float16", dimension=DIMENSION)
    maker.fill(maker.list_items(ids_of(items), shard_size=256))


def run(uri: str, items: int) -> None:
    """One publish; prints its line."""
    config = publish_config(dtype="float16", part_bytes=PART_BYTES, row_group_rows=256, sample_rows=500)
    config = replace(config, publish=replace(config.publish, piece_bytes=5 * 2**20))
    before = _peak_mib()
    started, cpu = time.perf_counter(), time.process_time()
    published = publish(uri, "r1", config)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    assert published.items == items, published
    written = sum(file.stat().st_size for file in Path(uri, "releases").rglob("*") if file.is_file()) / 2**20
    print(
        f"{items:>7} items  {seconds:6.1f} s  {cpu:6.1f} CPU s  {items / cpu:7.0f} rows/CPU s  "
        f"{written / cpu:6.1f} MB/CPU s  {written:7.1f} MB  peak {_peak_mib():5.0f} MiB, {before:.0f} before"
    )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(sizes: list[int]) -> None:
    """Makes and publishes each size."""
    for items in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for step in ("make", "run"):
                subprocess.run([sys.executable, "-m", "benchmarks.bench_publish", step, folder, str(items)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["run"]:
        run(sys.argv[2], int(sys.argv[3]))
    else:
        main([int(argument) for argument in sys.argv[1:]] or list(SIZES))
