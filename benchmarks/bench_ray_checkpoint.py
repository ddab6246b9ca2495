"""What it takes to find that nothing is left: Ray Data's own checkpointing beside a plan over stage tables, by items.

    python -m benchmarks.bench_ray_checkpoint [--memory-gib G] [--ids N ...] [--folder PATH]

Both sides resume a job whose rows are all done. Ray Data (`DataContext.checkpoint_config`) reads the ids that it has
checkpointed and every input row, and drops the rows it knows, in one filter actor: each further one would hold all ids
once more. Ours lists file names. From 2 million ids on the sizes rise until Ray Data's side no longer fits into the
memory given, which all its processes together may take, the object store included: then that size is ended and the
benchmark is over. Each size runs in processes of its own. Last come the slopes by least squares over the sizes that
fitted, and what they would make of 100 million, which is an extrapolation.
"""

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bench_plan import ITEMS_A_SHARD, finish, generate, measure_plan
from benchmarks.watched import RESERVE_BYTES, Watched, run_watched

FILE_ROWS = 50_000
LIMIT_SECONDS = 3600.0
START_TRIES = 3
"""Ray gives its own processes 30 s to start; on a busy machine they take longer."""
SIZES = tuple(factor * size for size in (10**6, 10**7, 10**8) for factor in (2, 5, 10))[:6]
SIDES = ("Ray Data's checkpoint", "stage tables")


def write_ids(folder: Path, ids: int) -> None:
    """The ids as Parquet files of one column."""
    folder.mkdir(parents=True)
    for start in range(0, ids, FILE_ROWS):
        names = [f"clips/{number // 1000:06d}/{number:09d}" for number in range(start, min(start + FILE_ROWS, ids))]
        pq.write_table(pa.table({"video_id": names}), folder / f"{start:09d}.parquet")


def resume_with_ray(begins: Callable[[], None], folder: Path, session: str, memory_bytes: int) -> dict[str, float]:
    """A run over an input whose rows are all in the checkpoint, on a Ray that has so much memory."""
    import ray
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    store_bytes = int(0.3 * memory_bytes)  # as Ray itself divides
    ray.init(
        address="local", num_cpus=4, object_store_memory=store_bytes, _memory=memory_bytes - store_bytes,
        include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, _temp_dir=session,
    )  # fmt: skip
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    config = CheckpointConfig(
        id_column="video_id", checkpoint_path=str(folder / "checkpoint"), delete_checkpoint_on_success=False
    )
    config.checkpoint_actor_pool_max_size = 1
    context.checkpoint_config = config
    begins()
    rows = ray.data.read_parquet(str(folder / "input")).map_batches(lambda batch: batch)
    rows.write_parquet(str(folder / "output"))
    assert not list((folder / "output").rglob("*.parquet")), "every row was known"
    ray.shutdown()
    return {"written": 0.0}


def plan_over_tables(begins: Callable[[], None], folder: Path) -> dict[str, float]:
    """A plan over a finished backfill."""
    begins()
    found = measure_plan(str(folder), "")
    assert found["pending"] == 0
    return found


def measure(folder: Path, ids: int, memory_bytes: int) -> tuple[Watched, Watched]:
    """Both sides at one size."""
    shards = -(-ids // ITEMS_A_SHARD)
    session = tempfile.mkdtemp(prefix="bench-ray-")  # sockets lie in it, whose paths must be short
    folder.mkdir()
    try:
        generate(folder, shards)
        finish(folder, shards)
        watched = partial(run_watched, limit_bytes=memory_bytes, limit_seconds=LIMIT_SECONDS)
        ours = watched(plan_over_tables, folder)
        shutil.rmtree(folder)
        for name in ("input", "checkpoint"):
            write_ids(folder / name, ids)
        for _ in range(START_TRIES):
            theirs = watched(resume_with_ray, folder, session, memory_bytes)
            if theirs.began:
                break
        return theirs, ours
    finally:
        shutil.rmtree(session, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def slope(ids: list[int], values: list[float]) -> tuple[float, float]:
    """Growth a million items and what there is at none, by least squares."""
    growth, base = np.polyfit(np.asarray(ids) / 1e6, values, 1)
    return float(growth), float(base)


def show_slopes(name: str, found: dict[int, Watched]) -> None:
    """The slopes of one side."""
    fitted = {ids: one for ids, one in found.items() if one.why_ended is None}
    if len(fitted) < 2:
        return
    ids = list(fitted)
    memory, base = slope(ids, [one.peak_bytes / 2**20 for one in fitted.values()])
    wall, _ = slope(ids, [one.wall_seconds for one in fitted.values()])
    cpu, _ = slope(ids, [one.cpu_seconds for one in fitted.values()])
    print(
        f"{name}: an item more takes {memory * 2**20 / 1e6:.1f} bytes; "
        f"a million more {wall:.2f} s and {cpu:.2f} CPU s; "
        f"extrapolated to 100 million, not measured: {(base + 100 * memory) / 1024:.1f} GiB"
    )


def main(argv: list[str]) -> None:
    """Prints a line a size and side, and the slopes."""
    available = psutil.virtual_memory().available
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--memory-gib", type=float, default=(available - 2 * RESERVE_BYTES) / 2**30)
    parser.add_argument("--ids", type=int, nargs="+", default=SIZES, help="how many, rising")
    parser.add_argument("--folder", help="where the files of the benchmark are made, for its time")
    options = parser.parse_args(argv)
    memory_bytes = int(options.memory_gib * 2**30)
    folder = Path(tempfile.mkdtemp(prefix="bench-ckpt-", dir=options.folder))
    found: dict[str, dict[int, Watched]] = {name: {} for name in SIDES}
    print(f"within {options.memory_gib:.1f} GiB\n{'':<24} {'items':>11} {'wall s':>7} {'CPU s':>7} {'peak MiB':>9}")
    try:
        for ids in options.ids:
            for name, one in zip(SIDES, measure(folder / str(ids), ids, memory_bytes), strict=True):
                found[name][ids] = one
                why = f"  ended: {one.why_ended}" if one.why_ended is not None else ""
                peak = one.peak_bytes / 2**20
                print(
                    f"{name:<24} {ids:>11,} {one.wall_seconds:>7.1f} {one.cpu_seconds:>7.1f} {peak:>9.0f}{why}",
                    flush=True,
                )
            if found[SIDES[0]][ids].why_ended is not None:
                break
    finally:
        shutil.rmtree(folder)
    for name, of in found.items():
        show_slopes(name, of)


if __name__ == "__main__":
    main(sys.argv[1:])
