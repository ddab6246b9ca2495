"""`python -m jobs.catalog`: lists a source into the catalog, or what changed in it since."""

import sys
from collections.abc import Sequence

from jobs.cli import EXIT_CODES, add_source_arguments, console_and_logging, end_process, parser, positive, run_command
from jobs.listing import describe, list_into_catalog
from pipeline.order import column_of
from pipeline.run import new_run_id
from storage.leases import Lease
from storage.stores import Store

EXAMPLES = f"""\
  python -m jobs.catalog --source s3://clips/2026 --output s3://features/clips
  python -m jobs.catalog --output s3://features/clips --metadata titles.csv

{EXIT_CODES}"""


def main(argv: Sequence[str]) -> int:
    """Lists and prints what changed. No model is loaded and no video read."""
    arguments = parser("catalog", "Lists the source into the catalog, or its changes since the last listing.", EXAMPLES)
    add_source_arguments(arguments)
    arguments.add_argument("--output", metavar="URI", required=True, help="where the catalog lies")
    arguments.add_argument("--metadata", metavar="URI", help="CSV, JSON Lines or Parquet with video_id, title, …")
    arguments.add_argument("--shard-size", type=positive, default=512, help="items a shard, for new items (512)")
    arguments.add_argument("--order", metavar="COLUMN", help="a numeric metadata column: its high values go first")
    options = arguments.parse_args(argv)
    console_and_logging(verbose=False)
    store = Store.open(options.output)
    with Lease.acquire(store, new_run_id()) as lease:
        change = list_into_catalog(
            store,
            source=options.source,
            source_format=options.format,
            columns=options.columns,
            metadata=options.metadata,
            shard_size=options.shard_size,
            refresh_known=True,
            order_by=column_of(options.order) if options.order is not None else None,
            check=lease.check,
        )
    if change is not None:
        print(describe(change))
    return 0


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
