"""Planning and resuming at 100 million items: seconds, memory and requests, and the first row after a restart.

    python -m benchmarks.bench_plan [shards] [folder]

Makes a catalog of so many shards of 512 items in a folder of its own (hard links to a few real files: a plan reads
names alone) and measures, each in a fresh process: the plan of a finished backfill, of a half-finished one, of one not
begun, and what a restart takes until its first rows arrive at the driver, Ray's own start apart: with every shard
pending, in the tasks that a run makes and in one task a shard; and once more with the journal of a killed run that has
half the rows of every hundredth shard, vectors of 1,024 in them, which the restart takes over first. Wall seconds are
given and, beside them, CPU seconds of the process, which other work on the machine does not change. The requests that a
plan makes of S3 are counted on a real server at a smaller size and follow from a formula.
"""

import math
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.killed_run import adopted, journal_halves
from benchmarks.light_stage import Nothing
from benchmarks.made_catalog import commit_catalog, link_all, make_catalog
from pipeline.gate import GateConfig, gates
from pipeline.graph import Graph, GraphConfig
from pipeline.plan import Plan, make_plan
from pipeline.ray_blocks import blocks_of
from pipeline.ray_session import LocalRayConfig, ray_session
from pipeline.spec import StageSpec
from pipeline.tasks import Tasks
from records.outcomes import STAGES
from records.schemas import StageRow
from storage.catalog import Catalog
from storage.stage_tables import StageTables
from storage.stores import Store, StoreConfig
from tests.s3 import CREDENTIALS, S3Server

ITEMS_A_SHARD = 512
MEDIA = {"caption": "video", "transcribe": "audio", "describe_audio": "audio", "tag_audio": "audio"}


def specs() -> dict[str, StageSpec]:
    """The whole graph, of stages that do nothing; `embed` alone is run."""
    found: dict[str, StageSpec] = {}
    for stage in STAGES:
        reads = ("decode",) if stage in MEDIA else tuple(MEDIA) if stage == "embed" else ()
        found[stage] = StageSpec(
            name=stage,
            fingerprint=f"{stage}-bench",
            reads=reads,
            modality=MEDIA.get(stage),  # type: ignore[arg-type]
            build=partial(Nothing, stage),
        )
    return found


def generate(folder: Path, shards: int) -> None:
    """The catalog of all shards, and every stage's files for the first half of them."""
    items = make_catalog(folder, [(shards, ITEMS_A_SHARD)])
    tables = StageTables(Store.open(str(folder)))
    for spec in specs().values():
        stage = Nothing(spec.name)
        rows = [StageRow(video_id=one.video_id, version=1, generation=0, outcome=stage.outcome()) for one in items]
        tables.commit(spec.name, "made", "0", 0, rows, {})
        made = folder / "stages" / spec.name / "made" / "0.0.parquet"
        names = [f"{number:08d}.0.parquet" for number in range(shards // 2)]
        link_all(folder / "stages" / spec.name / spec.fingerprint, made, names)


def finish(folder: Path, shards: int) -> None:
    """The other half of every stage's files."""
    for spec in specs().values():
        made = folder / "stages" / spec.name / "made" / "0.0.parquet"
        names = [f"{number:08d}.0.parquet" for number in range(shards // 2, shards)]
        link_all(folder / "stages" / spec.name / spec.fingerprint, made, names)


def plan_of(uri: str, of: dict[str, StageSpec]) -> tuple[Catalog, Plan]:
    """What a run does first."""
    store = Store.open(uri)
    catalog = Catalog.open(store)
    assert catalog is not None
    plan = make_plan(
        shard_ids=catalog.shard_ids(),
        tables=StageTables(store),
        metadata=catalog.files.metadata.astype(np.int32),
        titles=catalog.files.titles.astype(np.int32),
        returned=catalog.files.returned.astype(np.int32),
        specs=of,
        selected=of,
    )
    return catalog, plan


def measure_plan(uri: str, changed: str) -> dict[str, float]:
    """One plan in this process; `changed` names a stage whose settings have changed."""
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    of = specs()
    for stage in STAGES if changed == "all" else (changed,) if changed else ():
        of[stage] = replace(of[stage], fingerprint="other")
    _, plan = plan_of(uri, of)
    tasks = sum(1 for _ in Tasks(plan=plan, indices=plan.order))
    return {
        "pending": tasks,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "more": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024,
    }


def measure_restart(uri: str, max_reads: int) -> dict[str, float]:
    """From a plan to the first rows at the driver; `embed` is left to do in every shard."""
    with ray_session(LocalRayConfig(num_cpus=4, object_store_bytes=256 * 2**20), GraphConfig()):
        began = time.perf_counter()
        cpu = time.process_time()
        of = specs()
        of["embed"] = replace(of["embed"], fingerprint="other")
        catalog, plan = plan_of(uri, of)
        planned = time.perf_counter()
        committer = adopted(uri, plan, of)
        took_over = time.perf_counter()
        with gates(GateConfig()) as opened:
            graph = Graph(
                specs=of,
                modalities={},
                output_uri=uri,
                catalog_revision=catalog.revision,
                gate=opened.open(),
                config=GraphConfig(text_block_rows=512, max_reads=max_reads),
                store=StoreConfig(),
            )
            dataset = graph.build(Tasks(plan=plan, indices=plan.order, arrived=committer.arrived))
            built = time.perf_counter()
            next(blocks_of(dataset))
            first = time.perf_counter()
        return {
            "pending": plan.pending_shards,
            "plan": planned - began,
            "rows": sum(committer.arrived(shard_id).bit_count() for shard_id in committer.incomplete()),
            "adopt": took_over - planned,
            "build": built - took_over,
            "first": first - built,
            "cpu": time.process_time() - cpu,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def apart(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:  # noqa: ANN401 - of the function
    """The function in a process of its own, whose peak memory is its alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def count_requests(shards: int) -> tuple[int, int, int]:
    """Requests of one plan on a real S3 server: counted, and by the formula for as many shards, and for 200,000."""
    server = S3Server()
    os.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": server.endpoint}
    try:
        bucket = server.bucket()
        store = Store.open(bucket)
        commit_catalog(store, [(shards, ITEMS_A_SHARD)])
        for spec in specs().values():
            server.fill(bucket, (f"stages/{spec.name}/{spec.fingerprint}/{n:08d}.0.parquet" for n in range(shards)))
        before = len(server.requests)
        plan_of(bucket, specs())
        return len(server.requests) - before, requests_of(shards), requests_of(200_000)
    finally:
        server.close()


def requests_of(shards: int) -> int:
    """One to open the store; of the catalog a listing and two objects; a thousand names a listing of each stage."""
    return 4 + len(STAGES) * max(1, math.ceil(shards / 1000))


def main(shards: int = 200_000, parent: str | None = None) -> None:
    """Makes the catalog, measures, prints, removes it."""
    if parent is not None:
        Path(parent).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-plan-", dir=parent))
    try:
        began = time.perf_counter()
        generate(folder, shards)
        print(f"{shards} shards, {shards * ITEMS_A_SHARD:,} items, made in {time.perf_counter() - began:.0f} s")
        print(f"{'':<44} {'shards':>8} {'wall s':>7} {'CPU s':>6} {'peak MiB':>8} {'of it more':>10}")

        def line(name: str, changed: str = "") -> None:
            found = apart(measure_plan, str(folder), changed)
            print(
                f"{name:<44} {found['pending']:>8.0f} {found['wall']:>7.1f} {found['cpu']:>6.1f} "
                f"{found['peak']:>8.0f} {found['more']:>10.0f}", flush=True,
            )  # fmt: skip

        line("plan and tasks, nothing begun", "all")
        line("plan and tasks, half-finished")
        finish(folder, shards)
        line("plan, finished")
        line("plan and tasks, finished, another encoder", "embed")
        counted, formula, full = count_requests(2500)
        print(
            f"requests of a plan of 2,500 shards on S3: {counted} counted, {formula} by 4 + 6 x ceil(shards / 1,000);"
        )
        print(f"at 200,000 shards {full}: stages side by side, each {math.ceil(200_000 / 1000)} one after another")
        most = GraphConfig().max_reads
        for reads, journalled in ((most, False), (shards, False), (most, True)):
            if journalled:
                journal_halves(str(folder), range(0, shards, 100), ITEMS_A_SHARD // 2)
            found = apart(measure_restart, str(folder), reads)
            print(
                f"restart, {found['pending']:.0f} shards in at most {reads} tasks: plan {found['plan']:.1f} s, "
                f"{found['rows']:.0f} journalled rows taken over {found['adopt']:.1f} s, "
                f"tasks handed to Ray {found['build']:.1f} s, first rows {found['first']:.1f} s later; "
                f"driver's CPU {found['cpu']:.1f} s, peak {found['peak']:.0f} MiB", flush=True,
            )  # fmt: skip
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*(kind(argument) for kind, argument in zip((int, str), sys.argv[1:3], strict=False)))
