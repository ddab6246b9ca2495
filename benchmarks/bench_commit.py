"""What the one committer of a run can take: rows a second through its three steps, and the driver's memory.

    python -m benchmarks.bench_commit [shards] [rows a shard] [vector length]

Rows are as the whole graph makes them: six stages, four vectors each. They arrive as the blocks that Ray hands over, in
an order that mixes shards. `straggler` keeps one row of every shard back until all others are in, so that every shard
is open at once and its rows go through the journal. `ranges` runs several drivers at a time on one output, each under
the lease of its own shards, as jobs with disjoint `--shard-range`s do. Rates are by the process's own CPU seconds, so
that other work on the machine does not count: one driver, one core. At last, what one open shard costs the driver once
its rows are journalled, by tracemalloc.
"""

import gc
import multiprocessing
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.breaker import Breaker, BreakerConfig
from pipeline.committer import Committer
from pipeline.plan import NONE, Plan, make_plan
from pipeline.spec import StageSpec
from records.flow import FlowRow, flow_rows, flow_table, header
from records.items import CatalogItem
from records.outcomes import (
    STAGES,
    AudioDescription,
    AudioTags,
    Caption,
    Embedding,
    MediaFacts,
    Outcome,
    Segment,
    Transcript,
    View,
)
from storage.journals import Journal
from storage.leases import Lease
from storage.stage_tables import StageTables
from storage.stores import Store

BLOCK_ROWS = 64
FLUSH_ROWS = 4096
TEXT = "A person in a red coat walks along a windy beach while a dog runs ahead and waves break behind them. " * 4


def _nothing() -> None:
    raise AssertionError("no stage is built here")


SPECS = {stage: StageSpec(name=stage, fingerprint=f"{stage}-bench", build=_nothing) for stage in STAGES}


def item(shard: int, number: int) -> CatalogItem:
    """One line of the catalog."""
    name = f"clips/{shard:06d}/{number:06d}"
    return CatalogItem(video_id=name, version=1, uri=f"s3://bucket/{name}.mp4", size_bytes=4_000_000, etag="0" * 32)


def outcomes_of(number: int, length: int) -> dict[str, Outcome]:
    """What the whole graph makes of one item."""
    vectors = np.random.default_rng(number).standard_normal((4, length)).astype(np.float32)
    views = [View(document=TEXT, vector=vector, chunks=1) for vector in vectors]
    segments = tuple(
        Segment(start_seconds=float(n), end_seconds=n + 1.0, text=TEXT[:40], avg_logprob=-0.3, no_speech_prob=0.1)
        for n in range(6)
    )
    return {
        "decode": MediaFacts(
            duration_seconds=15.0,
            has_video=True,
            has_audio=True,
            frame_times_seconds=tuple(n * 0.5 for n in range(30)),
        ),
        "caption": Caption(text=TEXT, finish_reason="stop", prompt_tokens=3000, output_tokens=120),
        "transcribe": Transcript(text=TEXT, language="en", language_probability=0.9, segments=segments),
        "describe_audio": AudioDescription(text=TEXT, windows=1, prompt_tokens=800, output_tokens=90),
        "tag_audio": AudioTags(labels=tuple(f"label {n}" for n in range(8)), scores=tuple(n / 9 for n in range(8))),
        "embed": Embedding(video=views[0], audio=views[1], metadata=views[2], all=views[3]),
    }


def blocks(shards: Sequence[int], rows: int, length: int, *, stragglers: bool) -> Iterator[pa.Table]:
    """The rows of some shards as blocks, eight shards side by side; stragglers come after everything else."""
    late: list[FlowRow] = []
    for start in range(0, len(shards), 8):
        group = shards[start : start + 8]
        lines = [header(f"{shard:08d}", rows) for shard in group]
        for number in range(rows):
            for shard in group:
                line = FlowRow(
                    shard_id=f"{shard:08d}",
                    position=number,
                    issued_rows=rows,
                    item=item(shard, number),
                    pending=STAGES,
                    outcomes=outcomes_of(shard * rows + number, length),
                )
                (late if stragglers and number == rows - 1 else lines).append(line)
                if len(lines) == BLOCK_ROWS:
                    yield flow_table(lines)
                    lines = []
        if lines:
            yield flow_table(lines)
    for start in range(0, len(late), BLOCK_ROWS):
        yield flow_table(late[start : start + BLOCK_ROWS])


def committer_of(
    store: Store, run_id: str, shards: Sequence[int], rows: int, specs: Mapping[str, StageSpec]
) -> Committer:
    """The committer of a run on some shards, none of which is begun."""
    tables = StageTables(store)
    plan: Plan = make_plan(
        shard_ids=[f"{number:08d}" for number in range(max(shards) + 1)],
        tables=tables,
        metadata=np.full(max(shards) + 1, NONE, dtype=np.int32),
        titles=np.full(max(shards) + 1, NONE, dtype=np.int32),
        specs=specs,
        selected=specs,
    )
    return Committer(
        specs=specs,
        task_of=lambda shard_id: plan.task(int(shard_id)),
        items_of=lambda shard_id: [item(int(shard_id), number) for number in range(rows)],
        tables=tables,
        journal=Journal(store, run_id),
        breaker=Breaker(BreakerConfig()),
        footer={"run_id": run_id},
    )


def run(folder: str, run_id: str, shards: range, rows: int, length: int, stragglers: bool) -> dict[str, float]:
    """Commits the shards under their lease; CPU seconds by step, and the growth of peak memory in MiB."""
    store = Store.open(folder)
    with Lease.acquire(store, run_id, shards=(shards.start, shards.stop)) as lease:
        committer = committer_of(store, run_id, shards, rows, SPECS)
        spent = commit_all(committer, shards, rows, length, stragglers=stragglers)
        lease.check(ask=True)
    return spent


def commit_all(
    committer: Committer, shards: Sequence[int], rows: int, length: int, *, stragglers: bool
) -> dict[str, float]:
    """Takes every block as the driver's loop does."""
    spent = {"parse": 0.0, "commit": 0.0, "journal": 0.0}
    waiting = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for block in blocks(shards, rows, length, stragglers=stragglers):
        began = time.process_time()
        lines = flow_rows(block)
        parsed = time.process_time()
        committer.add(lines)
        added = time.process_time()
        waiting += len(lines)
        if waiting >= FLUSH_ROWS:
            committer.flush_journal()
            waiting = 0
        spent["parse"] += parsed - began
        spent["commit"] += added - parsed
        spent["journal"] += time.process_time() - added
    began = time.process_time()
    committer.finish()
    spent["commit"] += time.process_time() - began
    assert committer.committed_shards == len(shards)
    spent["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return spent


def open_shard_kib(folder: str, shards: int, rows: int) -> float:
    """KiB of the driver's memory for each shard of which one row is still out and all others are journalled."""
    outcomes = {"caption": Caption(text=TEXT)}
    committer = committer_of(Store.open(folder), "open", range(shards), rows, {"caption": SPECS["caption"]})

    def take(numbers: range) -> None:
        for shard in numbers:
            lines = [
                FlowRow(
                    shard_id=f"{shard:08d}",
                    position=number,
                    issued_rows=rows,
                    item=item(shard, number),
                    pending=("caption",),
                    outcomes=outcomes,
                )
                for number in range(rows - 1)
            ]
            committer.add(flow_rows(flow_table(lines)))
            if shard % 8 == 7:
                committer.flush_journal()
        committer.flush_journal()

    take(range(8))  # with what is imported and made once
    tracemalloc.start()
    take(range(8, shards))
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / 1024 / (shards - 8)


def _alone(arguments: tuple[str, str, range, int, int, bool]) -> dict[str, float]:
    return run(*arguments)


def show(name: str, rows: int, results: Sequence[dict[str, float]], seconds: float) -> None:
    """One line of the table."""
    cpu = sum(result[step] for result in results for step in ("parse", "commit", "journal"))
    parts = " ".join(
        f"{step} {sum(result[step] for result in results) / rows * 1e6:6.0f}" for step in ("parse", "commit", "journal")
    )
    memory = max(result["memory"] for result in results)
    print(f"{name:<34} {rows / cpu:8.0f} {parts} {memory:10.0f} {rows / seconds:10.0f}")
    for number, result in enumerate(results if len(results) > 1 else ()):
        alone = sum(result[step] for step in ("parse", "commit", "journal"))
        print(f"  job {number} {rows / len(results) / alone:35.0f} {'':42} {result['memory']:10.0f}")


def main(shards: int = 24, rows: int = 512, length: int = 1024) -> None:
    """Prints the table."""
    print(f"{shards} shards of {rows} rows, four vectors of {length}")
    print(f"{'':<34} {'rows/CPU s':>8} {'microseconds of CPU a row':^42} {'MiB more':>10} {'rows/s':>10}")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="bench-commit-") as folder:
        for name, stragglers in (("whole shards", False), ("a straggler in every shard", True)):
            with context.Pool(1) as pool:
                began = time.perf_counter()
                arguments = (f"{folder}/{name}", "r", range(shards), rows, length, stragglers)
                results = pool.map(_alone, [arguments])
            show(name, shards * rows, results, time.perf_counter() - began)
        for ranges in (2, 4):
            size = shards // ranges
            jobs = [
                (f"{folder}/{ranges}", f"r{n}", range(n * size, (n + 1) * size), rows, length, False)
                for n in range(ranges)
            ]
            with context.Pool(ranges) as pool:
                began = time.perf_counter()
                results = pool.map(_alone, jobs)
            show(f"{ranges} jobs on disjoint ranges", ranges * size * rows, results, time.perf_counter() - began)
        kib = open_shard_kib(f"{folder}/open", 264, rows)
        print(f"a shard that one row keeps open: {kib:.1f} KiB of the driver's memory once the others are journalled")
        files = sum(1 for _ in Path(folder).rglob("*.parquet"))
        print(
            f"{files} files written; `rows/s` counts the making of the rows as well, on a machine that does other work"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
