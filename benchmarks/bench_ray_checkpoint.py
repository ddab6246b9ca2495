"""What it takes to find that nothing is left: Ray Data's own checkpointing beside a plan over stage tables, by items.

    python -m benchmarks.bench_ray_checkpoint [most ids] [folder]

Both sides resume a job whose rows are all done. Ray Data (`DataContext.checkpoint_config`) reads the ids that it has
checkpointed and every input row, and drops the rows it knows; ours lists file names. Per size it prints wall seconds,
CPU seconds over the driver and all workers, and the most memory that those processes had of their own beyond what they
had before, sampled; last come the slopes a million items, and what they make at 100 million. One Ray serves all sizes.
"""

import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import DataContext
from ray.data.checkpoint import CheckpointConfig

from benchmarks.bench_plan import ITEMS_A_SHARD, finish, generate, measure_plan
from pipeline.graph import GraphConfig
from pipeline.ray_session import LocalRayConfig, ray_session

FILE_ROWS = 50_000


class Watch:
    """Samples the private memory and CPU time of this process and all below it."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self.peak_bytes = 0
        self.cpu_seconds = 0.0

    def __enter__(self) -> "Watch":
        self._wall = time.perf_counter()
        self._cpu, self._before = self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.wall_seconds = time.perf_counter() - self._wall
        self.cpu_seconds = self._look()[0] - self._cpu

    def _watch(self) -> None:
        while not self._stop.wait(0.3):
            self.peak_bytes = max(self.peak_bytes, self._look()[1] - self._before)

    @staticmethod
    def _look() -> tuple[float, int]:
        cpu, memory = 0.0, 0
        this = psutil.Process()
        for process in [this, *this.children(recursive=True)]:
            try:
                times, found = process.cpu_times(), process.memory_info()
            except psutil.Error:
                continue
            cpu += times.user + times.system
            memory += found.rss - found.shared
        return cpu, memory


def write_ids(folder: Path, ids: int) -> None:
    """The ids as Parquet files of one column."""
    folder.mkdir(parents=True)
    for start in range(0, ids, FILE_ROWS):
        names = [f"clips/{number // 1000:06d}/{number:09d}" for number in range(start, min(start + FILE_ROWS, ids))]
        pq.write_table(pa.table({"video_id": names}), folder / f"{start:09d}.parquet")


def resume_with_ray(folder: Path, ids: int) -> Watch:
    """A run over an input whose rows are all in the checkpoint."""
    write_ids(folder / "input", ids)
    write_ids(folder / "checkpoint", ids)
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="video_id", checkpoint_path=str(folder / "checkpoint"), delete_checkpoint_on_success=False
    )
    try:
        with Watch() as watch:
            rows = ray.data.read_parquet(str(folder / "input")).map_batches(lambda batch: batch)
            rows.write_parquet(str(folder / "output"))
    finally:
        context.checkpoint_config = None
    assert not list((folder / "output").rglob("*.parquet")), "every row was known"
    return watch


def plan_over_tables(folder: Path, ids: int) -> Watch:
    """A plan over a finished backfill of so many items."""
    shards = -(-ids // ITEMS_A_SHARD)
    folder.mkdir()
    generate(folder, shards)
    finish(folder, shards)
    with Watch() as watch:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = measure_plan(str(folder), "")
    assert found["pending"] == 0
    watch.peak_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return watch


def slope(sizes: list[int], values: list[float]) -> float:
    """Growth a million items, by least squares."""
    return float(np.polyfit(np.asarray(sizes) / 1e6, values, 1)[0])


def main(most: int = 2_000_000, parent: str | None = None) -> None:
    """Prints a line a size and the slopes."""
    sizes = [most // 8, most // 4, most // 2, most]
    if parent is not None:
        Path(parent).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-checkpoint-", dir=parent))
    found: dict[str, list[Watch]] = {"stage tables": [], "Ray Data's checkpoint": []}
    try:
        for size in sizes:
            found["stage tables"].append(plan_over_tables(folder / f"tables-{size}", size))
        with ray_session(LocalRayConfig(num_cpus=4, object_store_bytes=1024 * 2**20), GraphConfig()):
            for size in sizes:
                found["Ray Data's checkpoint"].append(resume_with_ray(folder / f"ray-{size}", size))
                shutil.rmtree(folder / f"ray-{size}")
    finally:
        shutil.rmtree(folder)
    print(f"{'':<24} {'items':>9} {'wall s':>7} {'CPU s':>7} {'MiB more':>9}")
    for name, watches in found.items():
        for size, watch in zip(sizes, watches, strict=True):
            memory = watch.peak_bytes / 2**20
            print(f"{name:<24} {size:>9} {watch.wall_seconds:>7.1f} {watch.cpu_seconds:>7.2f} {memory:>9.0f}")
        cpu = slope(sizes, [watch.cpu_seconds for watch in watches])
        memory = slope(sizes, [watch.peak_bytes / 2**20 for watch in watches])
        print(
            f"{name:<24} a million more items: {cpu:.2f} CPU s, {memory:.1f} MiB; 100 million: {memory / 10.24:.1f} GiB"
        )


if __name__ == "__main__":
    main(*(kind(argument) for kind, argument in zip((int, str), sys.argv[1:3], strict=False)))
