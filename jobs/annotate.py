"""`python -m jobs.annotate`: describes every item of a source and commits the results as Parquet."""

import argparse
import sys
from collections.abc import Sequence

from jobs.cli import (
    FAILED_EXIT,
    add_config_arguments,
    add_source_arguments,
    config_of,
    console_and_logging,
    parser,
    positive,
    run_command,
)
from jobs.listing import list_into_catalog
from pipeline.assemble import build_specs
from pipeline.config import apply_overrides
from pipeline.report import RunReport
from pipeline.retry import parse_kinds
from pipeline.run import Run, RunRequest, new_run_id
from pipeline.spec import select_specs
from storage.leases import Lease
from storage.stores import Store

BREAKER_EXIT = 3
EXAMPLES = """\
  python -m jobs.annotate --source ~/Videos --output ~/described --recipe small
  python -m jobs.annotate --source s3://clips/2026 --output s3://features/clips --recipe modern --set decode.fps=1
  python -m jobs.annotate --output s3://features/clips --recipe modern --retry-failed timeout throttled
  python -m jobs.annotate --output s3://features/clips --recipe modern --stages embed

The command is resumable: run it again after whatever happened, and it does what is left.
exit codes: 0 all done (items with errors are rows too: see the report), 1 the last line says why, 2 wrong arguments,
3 stopped because too many items failed alike, 128 + the signal's number when told to stop
"""


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked as far as that needs no file."""
    arguments = parser("annotate", "Describes every item of a source; resumes where an earlier run ended.", EXAMPLES)
    add_source_arguments(arguments)
    arguments.add_argument("--output", metavar="URI", required=True, help="where the catalog and all results lie")
    arguments.add_argument("--metadata", metavar="URI", help="CSV, JSON Lines or Parquet with video_id, title, …")
    add_config_arguments(arguments)
    arguments.add_argument("--limit", type=positive, metavar="N", help="stop after N items, rounded up to whole shards")
    arguments.add_argument("--stages", metavar="a,b", help="run only these stages (and decode where they need it)")
    arguments.add_argument("--refresh", action="store_true", help="list the source again first")
    arguments.add_argument(
        "--retry-failed", nargs="*", metavar="KIND", help="run failed items again: those of the kinds named, or all"
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
    config = config_of(options)
    if options.max_error_share is not None:
        config = apply_overrides(config, {"breaker": {"max_error_share": options.max_error_share}})
    console = console_and_logging(verbose=options.verbose)
    stages = tuple(stage.strip() for stage in options.stages.split(",")) if options.stages is not None else None
    retry_kinds = parse_kinds(options.retry_failed) if options.retry_failed is not None else None
    specs = build_specs(config)
    select_specs(specs, stages)
    store = Store.open(options.output, retry=config.store.retry, limits=config.store.limits)
    run_id = new_run_id()
    with Lease.acquire(store, run_id) as lease:
        list_into_catalog(
            store,
            source=options.source,
            source_format=options.format,
            columns=options.columns,
            metadata=options.metadata,
            shard_size=config.shard_size,
            refresh_known=options.refresh,
            first_items=options.limit,
        )
        request = RunRequest(
            output_uri=options.output,
            recipe=options.recipe or "",
            stages=stages,
            retry_kinds=retry_kinds,
            limit=options.limit,
        )
        run = Run(request=request, config=config, specs=specs, store=store, lease=lease, run_id=run_id, console=console)
        report = run.execute()
    print(summary(report, store))
    if run.flag.signal_number is not None:
        return 128 + run.flag.signal_number
    if report.tripped is not None:
        return BREAKER_EXIT
    blocked = report.shards_blocked and not report.shards_pending
    return FAILED_EXIT if report.stopped or blocked else 0


def summary(report: RunReport, store: Store) -> str:
    """The end of a run in a few lines."""
    if not report.shards_pending and report.shards_blocked:
        waiting = ", ".join(f"{stage} in {count} shards" for stage, count in report.shards_blocked.items())
        return f"Nothing was run: {waiting} waits for stages that are not there yet; select those in --stages as well."
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
            kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(stats.errors.items()))
            lines.append(f"  {stage:<15} {stats.results:>7} results {stats.failed:>5} errors  {kinds}")
    lines.append(f"Report: {store.uri(f'runs/{report.run_id}/report.md')}")
    if report.stopped:
        lines.append(f"Stopped early: {report.stopped}. Run the same command to go on.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
