"""`python -m tests.pipeline.light_job`: the light graph as a process of its own, to be signalled and killed.

It does what `jobs.annotate` does, on the Ray that `RAY_ADDRESS` names.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from actors.decode_config import DecodeConfig
from cluster.nodes import NodeGroup
from cluster.prices import read_prices
from jobs.annotate import BREAKER_EXIT, summary
from jobs.cli import console_and_logging, end_process, run_command
from jobs.listing import list_into_catalog
from pipeline.breaker import BreakerConfig
from pipeline.builders import build_decode
from pipeline.config import RunConfig
from pipeline.loop_config import LoopConfig
from pipeline.run import Run, new_run_id
from pipeline.run_plan import read_plan
from pipeline.run_request import RunRequest
from pipeline.spec import StageSpec
from storage.faults import TimeLimits
from storage.fetch import FetchConfig
from storage.leases import Lease
from storage.stores import Store, StoreConfig
from tests.pipeline.light_stages import STAGES, light_specs
from tests.pipeline.runs import BASE
from tests.pipeline.wrapped_stages import build_hanging, build_slow_while, build_slowly, noted


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    arguments = argparse.ArgumentParser(allow_abbrev=False)
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--notes", type=Path, required=True, help="folder for `reads` and what else workers note")
    arguments.add_argument("--source", help="real clips, fetched and decoded in earnest; else the catalog is there")
    arguments.add_argument("--stages", default=",".join(STAGES), help="of the light graph")
    arguments.add_argument("--shard-size", type=int, default=8)
    arguments.add_argument("--seconds", type=float, default=0.0, help="that each row takes in decode")
    arguments.add_argument("--stall-seconds", type=float, default=30.0, help="that S3 may say nothing")
    arguments.add_argument("--journal-seconds", type=float, default=0.5)
    arguments.add_argument("--drain-seconds", type=float, default=5.0)
    arguments.add_argument("--settings", type=Path, help="JSON: see _settled")
    arguments.add_argument("--prices", help="what nodes cost, for the ledger")
    arguments.add_argument("--plan", help="a plan file, for its phases")
    return arguments.parse_args(argv)


def _settled(specs: dict[str, StageSpec], path: Path) -> RunConfig:
    """Changes stages as a file says, and returns its config.

    Its keys: `pools`, `load_seconds`, `hangs`, `graph`, `gate`, `node_groups`; `slow_while`: stage to seconds that each
    row takes while there is a file `slow` beside that one.
    """
    settings = json.loads(path.read_text())
    for stage, fields in settings.get("pools", {}).items():
        specs[stage] = replace(specs[stage], pool=replace(specs[stage].pool, **fields))
    for stage, seconds in settings.get("load_seconds", {}).items():
        specs[stage] = replace(specs[stage], build=partial(build_slowly, specs[stage].build, seconds))
    for stage, seconds in settings.get("slow_while", {}).items():
        build = partial(build_slow_while, specs[stage].build, path.parent / "slow", seconds)
        specs[stage] = replace(specs[stage], build=build)
    for stage in settings.get("hangs", []):
        specs[stage] = replace(specs[stage], build=partial(build_hanging, specs[stage].build))
    return replace(
        BASE,
        graph=replace(BASE.graph, **settings.get("graph", {})),
        gate=replace(BASE.gate, **settings.get("gate", {})),
        node_groups=tuple(NodeGroup(**group) for group in settings.get("node_groups", [])),
    )


def main(argv: Sequence[str]) -> int:
    options = options_of(argv)
    console = console_and_logging(verbose=False)
    specs = dict(light_specs(options.notes / "reads", seconds=options.seconds, stages=options.stages.split(",")))
    limits = TimeLimits(stall_seconds=options.stall_seconds)
    if options.source is not None:
        build = partial(build_decode, DecodeConfig(max_frames=4), FetchConfig(limits=limits))
        pool = replace(specs["decode"].pool, calls=4)
        specs["decode"] = replace(specs["decode"], build=build, pool=pool)
    base = _settled(specs, options.settings) if options.settings else BASE
    config = replace(
        base,
        store=StoreConfig(limits=limits),
        loop=LoopConfig(journal_seconds=options.journal_seconds, drain_seconds=options.drain_seconds),
        breaker=BreakerConfig(max_error_share=0.5, window_rows=8, min_rows=8),
    )
    store = Store.open(options.output, retry=config.store.retry, limits=limits)
    run_id = new_run_id()
    with Lease.acquire(store, run_id) as lease:
        if options.source is not None:
            list_into_catalog(
                store, source=options.source, metadata=None, shard_size=options.shard_size, refresh_known=False
            )
        run = Run(
            request=RunRequest(
                output_uri=options.output,
                prices=read_prices(options.prices) if options.prices else None,
                plan=read_plan(options.plan) if options.plan else None,
            ),
            config=config,
            specs=noted(specs, options.notes),
            store=store,
            lease=lease,
            run_id=run_id,
            console=console,
        )
        report = run.execute()
    sys.stdout.write(summary(report, store) + "\n")
    if run.flag.signal_number is not None:
        return 128 + run.flag.signal_number
    return BREAKER_EXIT if report.stopped else 0


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
