"""`python -m jobs.annotate`: describes every item of a source and commits the results as Parquet."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence

from cluster.prices import read_prices
from jobs.cli import (
    FAILED_EXIT,
    add_config_arguments,
    add_source_arguments,
    config_of,
    console_and_logging,
    end_process,
    parser,
    positive,
    positive_number,
    run_command,
    shard_range,
    stage_names,
)
from jobs.listing import check_listed, describe, list_into_catalog
from pipeline.assemble import build_specs
from pipeline.config import apply_overrides
from pipeline.limits import Limits, parse_deadline
from pipeline.order import column_of
from pipeline.report import RunReport
from pipeline.retry import parse_kinds
from pipeline.run import Run, new_run_id
from pipeline.run_plan import RunPlan, read_plan
from pipeline.run_request import RunRequest
from pipeline.spec import select_specs
from pipeline.stats import kinds_text
from storage.leases import Check, Lease
from storage.stores import Store

logger = logging.getLogger("jobs.annotate")  # its own name is __main__

BREAKER_EXIT = 3
ALL_SHARDS = (0, None)
EXAMPLES = """\
  python -m jobs.annotate --source ~/Videos --output ~/described --recipe small
  python -m jobs.annotate --source s3://clips/2026 --output s3://features/clips --recipe modern --set decode.fps=1
  python -m jobs.annotate --output s3://features/clips --recipe modern --retry-failed timeout throttled
  python -m jobs.annotate --output s3://features/clips --recipe modern --stages embed
  python -m jobs.annotate --output s3://features/clips --recipe modern --refresh --order views --deadline 06:00
  python -m jobs.annotate --output s3://features/clips --plan s3://features/clips/plans/20261126T101500-3f2a1c.yaml
  python -m jobs.annotate --output s3://features/clips --recipe modern --shard-range 0:100000 --max-gpu-hours 400

The command is resumable: run it again after whatever happened, and it does what is left.
exit codes: 0 all done (items with errors are rows too: see the report), or stopped by --limit, --deadline or
--max-gpu-hours as asked (the last lines and report.json say what is left), 1 the last line says why, 2 wrong arguments,
3 stopped because too many items failed alike, 128 + the signal's number when told to stop
"""


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked as far as that needs no file."""
    arguments = parser("annotate", "Describes every item of a source; resumes where an earlier run ended.", EXAMPLES)
    add_source_arguments(arguments)
    arguments.add_argument("--output", metavar="URI", required=True, help="where the catalog and all results lie")
    arguments.add_argument("--metadata", metavar="URI", help="CSV, JSON Lines or Parquet with video_id, title, …")
    add_config_arguments(arguments)
    arguments.add_argument(
        "--plan",
        metavar="FILE",
        help="a plan of jobs.plan, path or URI: its pool sizes; the report says how it came",
    )
    arguments.add_argument(
        "--prices", metavar="FILE", help="what nodes cost, as for jobs.plan: the report says what each stage cost"
    )
    arguments.add_argument("--limit", type=positive, metavar="N", help="stop after N items, rounded up to whole shards")
    arguments.add_argument(
        "--order",
        default="oldest",
        help="shards that go first: oldest, newest, largest, or by a numeric metadata column such as views, by which "
        "newly listed items are sorted into shards as well",
    )
    arguments.add_argument(
        "--deadline",
        metavar="WHEN",
        help="stop in time for a moment (2026-11-27T06:00, 06:00) or after a while (90m, 6h)",
    )
    arguments.add_argument(
        "--max-gpu-hours", type=positive_number, metavar="H", help="stop in time for the GPUs to be held so long in all"
    )
    arguments.add_argument(
        "--shard-range", type=shard_range, metavar="A:B", help="only shards A to B-1, beside other runs on other ranges"
    )
    arguments.add_argument(
        "--stages", type=stage_names, metavar="a,b", help="run only these stages (and decode where they need it)"
    )
    arguments.add_argument("--refresh", action="store_true", help="list the source again first")
    arguments.add_argument(
        "--retry-failed",
        nargs="*",
        metavar="KIND",
        help="run failed items again, of the kinds named or all, and no others",
    )
    arguments.add_argument(
        "--max-error-share",
        type=float,
        metavar="SHARE",
        help="stop when one kind of failure takes more of the last rows than this; 0.2 of 1,000 unless configured",
    )
    arguments.add_argument("--verbose", action="store_true", help="log more")
    return arguments.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Parses, lists the source where that is needed, runs, and prints the summary."""
    options = options_of(argv)
    plan = read_plan(options.plan) if options.plan is not None else None
    config = config_of(options, plan)
    if options.max_error_share is not None:
        config = apply_overrides(config, {"breaker": {"max_error_share": options.max_error_share}})
    console = console_and_logging(verbose=options.verbose)
    request = request_of(options, plan)
    began = time.monotonic()
    deadline_seconds = parse_deadline(options.deadline) if options.deadline is not None else None
    specs = build_specs(config)
    if plan is not None:
        plan.check(specs)
    limits = Limits(
        seconds=deadline_seconds,
        started=began,
        gpu_hours=options.max_gpu_hours,
        gpus={name: spec.pool.num_gpus for name, spec in select_specs(specs, options.stages).items()},
        idle_seconds=config.loop.drain_seconds,
    )
    store = Store.open(options.output, retry=config.store.retry, limits=config.store.limits)
    run_id = new_run_id()
    with Lease.acquire(store, run_id, shards=options.shard_range or ALL_SHARDS) as lease:
        _list_source(options, store, config.shard_size, lease.check)
        run = Run(
            request=request,
            config=config,
            specs=specs,
            store=store,
            lease=lease,
            run_id=run_id,
            console=console,
            limits=limits,
        )
        report = run.execute()
    print(summary(report, store))
    return exit_code(report, run.flag.signal_number)


def request_of(options: argparse.Namespace, plan: RunPlan | None) -> RunRequest:
    """What the command line asks of the run.

    Raises:
        UserError: There is no such kind of failure, or the price table cannot be read.
    """
    return RunRequest(
        output_uri=options.output,
        recipe=options.recipe or (plan.recipe if plan is not None else ""),
        plan=plan,
        prices=read_prices(options.prices) if options.prices is not None else None,
        stages=options.stages,
        retry_kinds=parse_kinds(options.retry_failed) if options.retry_failed is not None else None,
        limit=options.limit,
        order=options.order,
        shards=options.shard_range,
    )


def _list_source(options: argparse.Namespace, store: Store, shard_size: int, check: Check) -> None:
    """Lists where that is needed; a run of some shards, which holds no lease on the catalog, takes it as it is."""
    if options.shard_range not in (None, ALL_SHARDS):
        check_listed(store, listing=options.refresh or options.metadata is not None)
        return
    change = list_into_catalog(
        store,
        source=options.source,
        source_format=options.format,
        columns=options.columns,
        metadata=options.metadata,
        shard_size=shard_size,
        refresh_known=options.refresh,
        first_items=options.limit,
        order_by=column_of(options.order),
        check=check,
    )
    if change is not None:
        logger.info("%s", describe(change))


def exit_code(report: RunReport, signal_number: int | None) -> int:
    """How the command ends, as the end of its help says.

    Args:
        report: The run's.
        signal_number: The signal that stopped it, or None.
    """
    if signal_number is not None:
        return 128 + signal_number
    if report.tripped is not None:
        return BREAKER_EXIT
    blocked = report.shards_blocked and not report.shards_pending
    failed = report.stopped is not None and not report.planned_stop
    return FAILED_EXIT if failed or blocked else 0


def summary(report: RunReport, store: Store) -> str:
    """The end of a run in a few lines."""
    waiting = ", ".join(f"{stage} in {count} shards" for stage, count in report.shards_blocked.items())
    if not report.shards_pending and waiting:
        return f"Nothing was run: what {waiting} would read is not there yet; name those stages in --stages as well."
    if not report.shards_pending:
        return f"Nothing left to do: all {report.items} items are done. `python -m jobs.status` counts the errors."
    good = report.items_run - report.items_with_errors
    lines = [
        f"{'Stopped' if report.stopped else 'Done'} in {report.seconds:.0f} s: "
        f"{report.items_run} items = {good} good + {report.items_with_errors} with errors; "
        f"{report.shards_committed} of {report.shards_pending} shards committed"
        + (f"; {report.items_from_journal} items taken over from a stopped run" if report.items_from_journal else "")
    ]
    for stage, stats in report.stages.items():
        if stats.rows:
            kinds = kinds_text(stats.errors, stats.stream_errors)
            lines.append(f"  {stage:<15} {stats.results:>7} results {stats.failed:>5} errors  {kinds}")
    if report.items_with_errors and report.tripped is None:
        lines.append("Errors are rows too and stay as they are until --retry-failed runs those items again.")
    if waiting:
        lines.append(f"Not run: {waiting}, whose input is not there yet: name its stages in --stages as well")
    lines.append(f"Report: {store.uri(f'runs/{report.run_id}/report.md')}")
    if report.tripped is not None:
        lines.append(
            f"Stopped: {report.stopped}. Mend what made them fail, or raise --max-error-share; then run it again."
        )
    elif report.stopped and report.shards_committed < report.shards_pending:
        lines.append(f"Stopped early: {report.stopped}. Run the same command to go on.")
    elif report.stopped:
        lines.append(f"Nothing is left to do: {report.stopped} as the last rows came in.")
    if report.remaining:
        lines.append(f"Left for the next run: {report.remaining_text()}")
    return "\n".join(lines)


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
