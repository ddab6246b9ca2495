"""`python -m jobs.status`: per stage, how many shards and rows there are, and the errors by kind."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table

from jobs.cli import EXIT_CODES, FAILED_EXIT, end_process, parser, run_command
from pipeline.stats import kinds_text
from records.errors import ReelscribeError, UserError
from records.outcomes import STAGES
from storage.catalog import Catalog
from storage.faults import redact
from storage.prefetch import answers
from storage.stage_tables import Footer, StageTables
from storage.stores import Store

PLAIN_WIDTH = 160
"""Columns where the output goes to a file or a pipe."""

EXAMPLES = f"""\
  python -m jobs.status --output s3://features/clips
  python -m jobs.status --output s3://features/clips --json

{EXIT_CODES}"""


@dataclass(slots=True, kw_only=True)
class FingerprintStatus:
    """What one stage has under one fingerprint."""

    stage: str
    fingerprint: str
    shards: int = 0
    rows: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Rows that are errors, by kind."""
    stream_errors: Counter[str] = field(default_factory=Counter)
    """Failures of single streams, in rows that are results."""
    run_id: str = ""
    """The run that wrote the newest of its files looked at."""
    model: str = ""
    damaged: list[str] = field(default_factory=list)
    """What is said of each file that cannot be read; its rows count nowhere."""
    gone: int = 0
    """Files that something removed while they were counted: likewise."""


def stage_status(catalog: Catalog, tables: StageTables, stage: str, fingerprint: str) -> FingerprintStatus:
    """Counts from the footers of a stage's newest files, without the items that were replaced or deleted since.

    Files of shards that a listing added meanwhile are left out. Several files are read at a time.
    """
    status = FingerprintStatus(stage=stage, fingerprint=fingerprint)

    def read(file: tuple[str, int, int]) -> Footer | ReelscribeError | FileNotFoundError:
        shard_id, generation, size_bytes = file
        try:
            removed = catalog.removed(shard_id)
            return tables.live_footer(stage, fingerprint, shard_id, generation, removed, size_bytes)
        except (ReelscribeError, FileNotFoundError) as error:
            return error

    known = (file for file in tables.newest_files(stage, fingerprint) if int(file[0]) < catalog.shard_count)
    for _, footer in answers(known, read):
        if isinstance(footer, Footer):
            _count(status, footer)
        elif isinstance(footer, FileNotFoundError):
            status.gone += 1
        else:
            status.damaged.append(str(footer))
    return status


def _count(status: FingerprintStatus, footer: Footer) -> None:
    status.shards += 1
    status.rows += footer.rows
    status.errors.update(Counter(footer.failures) - Counter(footer.stream_failures))
    status.stream_errors.update(footer.stream_failures)
    run_id = footer.values.get("run_id", "")
    if run_id >= status.run_id:
        status.run_id, status.model = run_id, footer.values.get("model", "")


def main(argv: Sequence[str]) -> int:
    """Prints the table, or JSON."""
    arguments = parser("status", "Says per stage what is done and which errors there are.", EXAMPLES)
    arguments.add_argument("--output", metavar="URI", required=True, help="the output of jobs.annotate")
    arguments.add_argument("--json", action="store_true", help="for programs")
    options = arguments.parse_args(argv)
    store = Store.open(options.output)
    catalog = Catalog.open(store)
    if catalog is None:
        raise UserError(f"{store.root} has no catalog: nothing was listed there, or its catalog/ is gone")
    tables = StageTables(store)
    found = [stage_status(catalog, tables, stage, name) for stage in STAGES for name in tables.fingerprints(stage)]
    if options.json:
        stages = [
            asdict(status) | {"errors": dict(status.errors), "stream_errors": dict(status.stream_errors)}
            for status in found
        ]
        counts = {"items": catalog.item_count, "shards": catalog.shard_count, "revision": catalog.revision}
        print(json.dumps({"source": redact(catalog.source), **counts, "stages": stages}, indent=2))
    elif not found:
        print(f"{catalog.item_count} items are listed and none is described yet")
    else:
        _draw(catalog, found)
    damaged = [said for status in found for said in status.damaged]
    for said in damaged:
        print(f"error: {said}", file=sys.stderr)
    gone = sum(status.gone for status in found)
    if gone:
        print(f"error: {gone} files went while they were counted, as jobs.prune does: run it again", file=sys.stderr)
    return FAILED_EXIT if damaged or gone else 0


def _draw(catalog: Catalog, found: Sequence[FingerprintStatus]) -> None:
    holds = f"{catalog.item_count} items in {catalog.shard_count} shards, revision {catalog.revision}"
    title = f"{redact(catalog.source)}: {holds}"
    table = Table(title=title, title_justify="left")
    for name in ("stage", "fingerprint", "shards", "rows", "errors", "by kind", "model", "last run"):
        right = name in ("shards", "rows", "errors")
        table.add_column(name, justify="right" if right else "left", no_wrap=name in ("stage", "fingerprint"))
    for status in found:
        kinds = kinds_text(status.errors, status.stream_errors)
        table.add_row(
            status.stage,
            status.fingerprint,
            f"{status.shards}/{catalog.shard_count}",
            str(status.rows),
            str(status.errors.total()),
            kinds,
            status.model,
            status.run_id,
        )
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
