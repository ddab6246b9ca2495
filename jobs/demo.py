"""`python -m jobs.demo`: describes a few small clips on this machine and shows the table that comes out.

A second time there is nothing left to do, and the same table is shown.
"""

import hashlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2
from huggingface_hub import constants, get_session, is_offline_mode
from rich.console import Console

from jobs.cli import end_process, parser, positive, run_command
from jobs.demo_clips import TITLES_NAME, make_clips
from jobs.demo_table import newest_fingerprints, read_rows, render
from jobs.status import PLAIN_WIDTH
from records.outcomes import STAGES
from storage.catalog import Catalog
from storage.stores import Store

HUB_TIMEOUT_SECONDS = 3.0
EXAMPLES = """\
  python -m jobs.demo                                  its own six clips
  python -m jobs.demo --source ~/Videos                a folder of yours
  python -m jobs.demo --source s3://bucket/clips --recipe tiny
"""


def hub_problem(endpoint: str = constants.ENDPOINT) -> str | None:
    """Why the model hub cannot be used, in a few words; None where it answers."""
    if is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        status = get_session().head(endpoint, timeout=HUB_TIMEOUT_SECONDS).status_code
    except (OSError, httpx2.HTTPError) as error:
        return str(error) or type(error).__name__
    return f"it answers {status}" if status >= 400 else None


def plan(source: str | None, recipe: str | None, folder: Path) -> tuple[list[str], Path]:
    """The arguments of `jobs.annotate` and its output; makes the clips and says which recipe it takes, and why.

    Each source and recipe has an output of its own, so that one never shows the other's rows.
    """
    if recipe is None:
        problem = hub_problem()
        recipe = "small" if problem is None else "tiny"
        if problem is not None:
            print(f"No model hub in reach ({problem}): recipe tiny, whose random weights make noise for words.")
    if source is None:
        make_clips(folder / "clips")
        output = folder / "output" / recipe
        files = ["--source", str(folder / "clips"), "--metadata", str(folder / "clips" / TITLES_NAME)]
    else:
        from jobs.listing import normal_source  # as late as the command itself: see main

        digest = hashlib.blake2b(normal_source(source).encode(), digest_size=4).hexdigest()
        output = folder / "output" / f"{recipe}-{digest}"
        # A folder of the user's may have changed since the last time.
        files = ["--source", source, *(["--refresh"] if output.exists() else [])]
    return [*files, "--output", str(output), "--recipe", recipe], output


def show(output: str, rows: int) -> None:
    """Prints the first rows of the newest run and where everything lies."""
    store = Store.open(output)
    fingerprints = newest_fingerprints(store)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    shown = read_rows(store, fingerprints, rows)
    console.print(render(shown))
    catalog = Catalog.open(store)
    if catalog is not None and catalog.item_count > len(shown):
        print(f"{len(shown)} of {catalog.item_count} items; --rows N (make demo ROWS=N) shows more")
    for stage, fingerprint in ((stage, fingerprints[stage]) for stage in STAGES if stage in fingerprints):
        print(f"{stage:>15}  {output}/stages/{stage}/{fingerprint}/")
    print(f"{'runs':>15}  {output}/runs/   (report.md of each run)")


def main(argv: Sequence[str]) -> int:
    """Makes the clips, runs `jobs.annotate` in this process and shows its output; returns the exit code."""
    arguments = parser("demo", "Describes a few small clips on this machine and shows the table.", EXAMPLES)
    arguments.add_argument("--source", metavar="URI", help="folder or prefix of videos; by default six clips made here")
    arguments.add_argument("--recipe", help="by default small where the model hub answers, else tiny")
    arguments.add_argument(
        "--folder", type=Path, default=Path("demo"), help="where clips and output go (default: demo)"
    )
    arguments.add_argument("--rows", type=positive, default=10, metavar="N", help="rows to show (default: 10)")
    chosen = arguments.parse_args(argv)
    # Imported late: Ray and the engines' libraries take seconds that the line about the hub need not wait for.
    from jobs.annotate import main as annotate

    command, output = plan(chosen.source, chosen.recipe, chosen.folder)
    print("$ python -m jobs.annotate " + shlex.join(command), flush=True)
    # In this process, so that Ctrl-C, SIGTERM and kill -9 reach the run itself and not a parent of it.
    code = annotate(command)
    if code == 0:
        show(str(output), chosen.rows)
    return code


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
