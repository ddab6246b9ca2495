"""`python -m jobs.demo`: describes a few small clips on this machine and shows the table that comes out.

A second time there is nothing left to do, and the same table is shown.
"""

import argparse
import hashlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2
from huggingface_hub import constants, get_session, is_offline_mode
from rich.console import Console

from jobs.demo_clips import TITLES_NAME, make_clips
from jobs.demo_table import newest_fingerprints, read_rows, render
from records.errors import UserError
from storage.stores import Store

HUB_TIMEOUT_SECONDS = 3.0
EXAMPLES = """examples:
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


def plan(source: str | None, recipe: str | None, folder: Path) -> list[str]:
    """The arguments of `jobs.annotate`; makes the clips and says which recipe it takes, and why.

    Each source and recipe has an output of its own, so that one never shows the other's rows.
    """
    if recipe is None:
        problem = hub_problem()
        recipe = "small" if problem is None else "tiny"
        if problem is not None:
            print(f"No model hub in reach ({problem}): recipe tiny, whose random weights make noise for words.")
    arguments = ["--recipe", recipe]
    if source is None:
        make_clips(folder / "clips")
        output = folder / "output" / recipe
        arguments += ["--source", str(folder / "clips"), "--metadata", str(folder / "clips" / TITLES_NAME)]
    else:
        output = folder / "output" / f"{recipe}-{hashlib.blake2b(source.encode(), digest_size=4).hexdigest()}"
        arguments += ["--source", source]
    return [*arguments, "--output", str(output)]


def show(output: str, rows: int) -> None:
    """Prints the first rows of the newest run and where everything lies."""
    store = Store.open(output)
    fingerprints = newest_fingerprints(store)
    console = Console()
    console.print(render(read_rows(store, fingerprints, rows)))
    for stage, fingerprint in fingerprints.items():
        print(f"{stage:>15}  {output}/stages/{stage}/{fingerprint}/")
    print(f"{'runs':>15}  {output}/runs/   (report.md of each run)")


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the clips, runs `jobs.annotate` in this process and shows its output; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m jobs.demo",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", help="folder or URI of videos; by default six clips made here")
    parser.add_argument("--recipe", help="by default small where the model hub answers, else tiny")
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where clips and output go (default: demo)")
    parser.add_argument("--rows", type=int, default=10, help="rows to show (default: 10)")
    chosen = parser.parse_args(argv)
    # Imported late: Ray and the engines' libraries take seconds that --help need not wait for.
    from jobs.annotate import main as annotate

    arguments = plan(chosen.source, chosen.recipe, chosen.folder)
    print("$ python -m jobs.annotate " + shlex.join(arguments), flush=True)
    # In this process, so that Ctrl-C, SIGTERM and kill -9 reach the run itself and not a parent of it.
    code: int = annotate(arguments)
    if code != 0:
        return code
    try:
        show(arguments[-1], chosen.rows)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
