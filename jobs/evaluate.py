"""`python -m jobs.evaluate`: what the features are worth to a recommender, as one table."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from jobs.cli import FAILED_EXIT, console_and_logging, end_process, parser, positive, run_command
from pipeline.config import apply_overrides, parse_settings, read_overrides
from pipeline.evaluation import (
    MODELS,
    BroughtFeatures,
    EvaluateConfig,
    EvaluationData,
    grid_cells,
    load_data,
    parse_rows,
    source_names,
)
from pipeline.grid import GridOutcome, run_grid
from pipeline.titles import VIEW, title_release
from pipeline.worth import WorthTable, entries_of
from pipeline.worth_markdown import to_json, to_markdown
from pipeline.worth_plot import to_png
from records.errors import UserError
from recsys.interactions import read_interactions
from storage.faults import redact
from storage.release_reader import ReleaseReader
from storage.stores import Store

DEFAULT_AGAINST = "metadata"
EXAMPLES = """\
  python -m jobs.evaluate --release s3://features/clips --interactions s3://events/pairs.tsv
  python -m jobs.evaluate --release s3://features/clips --interactions pairs.csv --features clap=clap.npy,ids.txt
  python -m jobs.evaluate --release ~/described/releases/may --interactions pairs.tsv --rows id metadata id+video+audio
  python -m jobs.evaluate --titles titles.csv --encoder BAAI/bge-small-en-v1.5 --interactions pairs.tsv --output worth

Interactions: MicroLens's pairs.tsv (user<TAB>item item …), or .csv or .parquet with the columns user, item, time.
Features from elsewhere: a .npy of (items, dimensions) floats; its ids in a Parquet file (video_id) or a text file, one
a line, or left out where the lines are those of the release's item_ids.parquet.
The command is resumable: each cell of the grid is stored when it is done.
exit codes: 0 all done, 1 some cells failed (they are named, and run again next time), 2 wrong arguments,
128 + the signal's number when told to stop
"""


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked as far as that needs no file."""
    arguments = parser("evaluate", "Measures features with Two-Towers and SASRec under MicroLens's protocol.", EXAMPLES)
    arguments.add_argument("--interactions", metavar="URI", required=True, help="who watched what, and when")
    arguments.add_argument("--release", metavar="URI", help="a release, or an output whose newest release it is")
    arguments.add_argument("--titles", metavar="URI", help="instead of a release: a table of ids and titles …")
    arguments.add_argument(
        "--encoder", metavar="MODEL", help="… and the sentence encoder that makes `metadata` of them"
    )
    arguments.add_argument(
        "--features", action="append", default=[], metavar="NAME=NPY[,IDS]", help="more vectors; may be repeated"
    )
    arguments.add_argument(
        "--output", metavar="URI", help="where results lie; evaluations/ beside the release by default"
    )
    arguments.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        help="id, a source, or several joined by +; by default id, each, and id with each",
    )
    arguments.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="both by default")
    arguments.add_argument(
        "--against", metavar="ROW", help=f"the row to compare with; {DEFAULT_AGAINST} where it is there"
    )
    arguments.add_argument("--seeds", type=positive, metavar="N", help="runs of each model and row; 3 by default")
    arguments.add_argument("--config", metavar="FILE.yaml", help="fields that override the defaults")
    arguments.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one field, such as sasrec.model.dim=128",
    )
    arguments.add_argument("--verbose", action="store_true", help="log more")
    options = arguments.parse_args(argv)
    options.models = list(dict.fromkeys(options.models))
    return options


def main(argv: Sequence[str]) -> int:
    """Reads, runs the grid, writes the table and prints it."""
    options = options_of(argv)
    config = config_of(options)
    brought = [BroughtFeatures.parse(text) for text in options.features]
    if (options.titles is None) != (options.encoder is None):
        raise UserError("--titles and --encoder go together")
    if options.titles is not None and options.release is not None:
        raise UserError("--release has its own metadata view: leave out --titles, or bring it as --features")
    console_and_logging(verbose=options.verbose)
    release = None if options.release is None else ReleaseReader.open(options.release)
    store = Store.open(output_of(options.output, release))
    views = (VIEW,) if options.titles is not None else release.views() if release is not None else ()
    rows = parse_rows(options.rows, source_names(views, brought))
    against = against_of(options.against, ["+".join(row) for row in rows])
    interactions = read_interactions(options.interactions)  # what is wrong with them is told before titles are encoded
    if options.titles is not None:
        release = title_release(store, options.titles, options.encoder)
    data = load_data(
        interactions=interactions,
        release=release,
        brought=brought,
        protocol=config.protocol,
        sources={source for row in rows for source in row},
    )
    data.check_size(config.protocol)
    cells = grid_cells(options.models, rows, config)
    print(f"{len(cells)} cells: {len(rows)} rows, {', '.join(options.models)}, {config.seeds} seeds, and the floor")
    outcome = run_grid(store, data, cells, config)
    table = table_of(options.interactions, release, data, outcome, config, against)
    markdown = to_markdown(table)
    for name, content in (
        ("table.md", markdown.encode()),
        ("table.json", to_json(table).encode()),
        ("table.png", to_png(table)),
    ):
        store.create_many([(name, content)])
    print(f"\n{markdown}\nTable: {', '.join(store.uri(f'table.{ending}') for ending in ('md', 'json', 'png'))}")
    return FAILED_EXIT if outcome.failures else 0


def config_of(options: argparse.Namespace) -> EvaluateConfig:
    """The config that the options ask for.

    Raises:
        UserError: An unknown field or a value of the wrong type.
    """
    overrides = read_overrides(options.config) if options.config else {}
    config = apply_overrides(EvaluateConfig(), overrides, parse_settings(options.settings))
    return config if options.seeds is None else dataclasses.replace(config, seeds=options.seeds)


def output_of(uri: str | None, release: ReleaseReader | None) -> str:
    """Where results lie.

    Raises:
        UserError: Nothing says where.
    """
    if uri is not None:
        return uri
    if release is None:
        raise UserError("--output is missing: without a release there is no place beside it")
    if release.prefix:
        return release.store.uri(f"evaluations/{release.name}")
    # The release's own folder was named: releases are never written to, so results lie beside `releases/`.
    above, _, name = release.store.root.rstrip("/").rpartition("/")
    if not above.endswith("/releases"):
        raise UserError("--output is missing: the release does not lie in an output's releases/")
    return f"{above.removesuffix('releases')}evaluations/{name}"


def against_of(wanted: str | None, rows: Sequence[str]) -> str | None:
    """The row that the others are compared with.

    Raises:
        UserError: The row asked for is not in the table.
    """
    if wanted is not None and wanted not in rows:
        raise UserError(f"--against {wanted}: no such row; there are {', '.join(rows)}")
    return wanted or (DEFAULT_AGAINST if DEFAULT_AGAINST in rows else None)


def table_of(
    interactions: str,
    release: ReleaseReader | None,
    data: EvaluationData,
    outcome: GridOutcome,
    config: EvaluateConfig,
    against: str | None,
) -> WorthTable:
    """Everything that is known at the end."""
    costs = [result.cost for result in outcome.results.values()]
    return WorthTable(
        interactions=redact(interactions),
        release=redact(release.uri) if release is not None else "",
        items=len(data.catalogue),
        exclusions=data.exclusions,
        features=tuple(features.report for features in data.features.values()),
        against=against,
        entries=entries_of(outcome.results, data, config.slices, against),
        failures={str(cell): reason for cell, reason in outcome.failures.items()},
        slice_config=config.slices,
        cpu_seconds=sum(cost.cpu_seconds for cost in costs),
        gpu_seconds=sum(cost.gpu_seconds for cost in costs),
        cells=len(costs),
        cells_reused=outcome.reused,
        settings=dataclasses.asdict(config),
    )


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
