"""The memory of a real driver with a straggler in every shard: Ray, the run, journals and commits in one process.

    python -m benchmarks.bench_stragglers [--shards N ...] [--minutes M] [--folder PATH]

A killed run has left so many shards of 8 items in its journal, each but for one row. The next one takes all of them
over, so that every shard is open at once; reads first 32 fresh shards of 512 items, of which it loses a call each, so
that rows with four vectors of 1,024 fill `loop.memory_bytes` and are journalled while all shards are open; runs the
stragglers; and runs what was lost row by row. It is `pipeline.run.Run` with one light stage of texts and the default
limits, but for the time between journals: only the limit of memory makes it write one. Each size has a process of its
own. What is told of each part is the memory that is its own, pages of files and of the object store left out, of which
the imports and Ray's client are there from the start; told last is the most that was resident, with those pages.
"""

import argparse
import io
import logging
import multiprocessing
import resource
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console

from actors.stage import PoolConfig
from benchmarks.killed_run import journal_halves
from benchmarks.light_stage import LosesCalls
from benchmarks.made_catalog import make_catalog
from pipeline.gate import GateConfig
from pipeline.limits import Limits
from pipeline.loop_config import LoopConfig
from pipeline.ray_session import LocalRayConfig, ray_session
from pipeline.recipes import tiny
from pipeline.run import Run, new_run_id
from pipeline.run_request import RunRequest
from pipeline.spec import StageSpec
from storage.leases import Lease
from storage.stores import Store

ITEMS, FRESH_SHARDS, FRESH_ITEMS = 8, 32, 512
PARTS = ("start", "taken over", "open", "again")


class MemoryWatch(threading.Thread):
    """The most memory of its own that this process held in each part of a run, which the driver's log tells."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.part = PARTS[0]
        self.peaks = dict.fromkeys(PARTS, 0)
        handler = logging.Handler()
        handler.emit = self._heard  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(logging.INFO)

    def run(self) -> None:
        """Looks twenty times a second."""
        this = psutil.Process()
        while not self.over.wait(0.05):
            memory = this.memory_info()
            self.peaks[self.part] = max(self.peaks[self.part], memory.rss - memory.shared)

    def _heard(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("took over"):
            self.part = "open"
        elif "did not come back whole" in text:
            self.part = "again"


def run(folder: str, shards: int, minutes: float | None) -> dict[str, float]:
    """One run to its end, or to a deadline."""
    specs = {
        "embed": StageSpec(
            name="embed",
            fingerprint="other",
            pool=PoolConfig(num_cpus=0.5, max_actors=2, batch_rows=64),
            build=partial(LosesCalls, "embed", lost=f"{FRESH_ITEMS - 1:06d}"),
        )
    }
    config = replace(
        tiny(),
        loop=LoopConfig(journal_seconds=3600.0),
        gate=GateConfig(max_rows_out=2 * FRESH_SHARDS * FRESH_ITEMS),
        graph=replace(tiny().graph, text_block_rows=64),
    )
    watch = MemoryWatch()
    watch.start()
    store, run_id = Store.open(folder), new_run_id()
    with ray_session(LocalRayConfig(num_cpus=4, object_store_bytes=512 * 2**20), config.graph):
        began = time.perf_counter()
        time.sleep(1.0)
        watch.part = "taken over"
        with Lease.acquire(store, run_id) as lease:
            request = RunRequest(output_uri=folder, order="newest")
            one = Run(
                request=request, config=config, specs=specs, store=store, lease=lease, run_id=run_id,
                console=Console(file=io.StringIO()), limits=Limits(seconds=minutes and minutes * 60),
            )  # fmt: skip
            report = one.execute()
        assert report.planned_stop or report.shards_committed == shards + FRESH_SHARDS, report.stopped
        assert report.items_with_errors == 0
        seconds = time.perf_counter() - began
    watch.over.set()
    found = {name: peak / 2**20 for name, peak in watch.peaks.items()}
    found["most"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**found, "adopted": report.items_from_journal, "committed": report.shards_committed, "seconds": seconds}


def measure(shards: int, minutes: float | None, parent: str | None) -> dict[str, float]:
    """Makes the catalog and the journal, runs, removes them."""
    folder = Path(tempfile.mkdtemp(prefix="bench-stragglers-", dir=parent))
    try:
        make_catalog(folder, [(shards, ITEMS), (FRESH_SHARDS, FRESH_ITEMS)])
        journal_halves(str(folder), range(shards), ITEMS - 1)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(run, (str(folder), shards, minutes))
    finally:
        shutil.rmtree(folder)


def main(argv: list[str]) -> None:
    """Prints a line a size and the slope."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="+", default=[2048, 8192, GateConfig().max_open_shards])
    parser.add_argument("--minutes", type=float, help="stop each run by a deadline: its peak comes early")
    parser.add_argument("--folder", help="where the files of the benchmark are made, for its time")
    options = parser.parse_args(argv)
    print(
        "MiB of the driver's own at most: with Ray alone, while it took over, with all shards open, while it ran what "
        "was lost; then the most that was resident, with pages of files and of the object store"
    )
    print(
        f"{'open shards':>12} {'rows':>10} {'committed':>10} {'seconds':>8} "
        + " ".join(f"{name:>11}" for name in (*PARTS, "most"))
    )
    peaks = []
    for shards in options.shards:
        found = measure(shards, options.minutes, options.folder)
        peaks.append(found["most"])
        parts = " ".join(f"{found[name]:>11.0f}" for name in (*PARTS, "most"))
        print(
            f"{shards:>12,} {found['adopted']:>10.0f} {found['committed']:>10.0f} {found['seconds']:>8.0f} {parts}",
            flush=True,
        )
    if len(peaks) > 1:
        growth = float(np.polyfit(options.shards, peaks, 1)[0])
        print(f"an open shard more: {growth * 1024:.1f} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
