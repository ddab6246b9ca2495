"""`python -m jobs.publish`: stage tables to one release, once its quality gates pass."""

import argparse
import sys
from collections.abc import Sequence

from jobs.cli import add_config_arguments, config_of, console_and_logging, end_process, parser, run_command
from pipeline.assemble import build_specs
from pipeline.config import apply_overrides, parse_settings
from pipeline.publish import Publish, Published
from pipeline.run import new_run_id
from records.errors import UserError
from records.releases import checked_name
from storage.leases import Lease
from storage.releases import LEASE
from storage.stores import Store

GATE_EXIT = 4
EXAMPLES = """\
  python -m jobs.publish --output s3://features/clips --release 2026-11-26 --recipe modern
  python -m jobs.publish --output ~/described --release first --recipe small --gate max_error_share=0.1
  python -m jobs.publish --output ~/described --release part --recipe small --allow-partial

It writes releases/NAME/ below the output, with report.html, and moves releases/LATEST there in the end. The command is
resumable; a release that is there never changes. It reads beside a running jobs.annotate and takes what was finished
when it started. --gate NAME=VALUE is --set publish.gates.NAME=VALUE; docs/releases.md lists the gates.
exit codes: 0 published, or there already; 1 the last line says why; 2 wrong arguments, unfinished shards or another
content under this name; 4 a gate failed: LATEST was not moved, and the report says more; 128 + the signal's number
"""


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    arguments = parser("publish", "Publishes what a config's stages made as one release, behind gates.", EXAMPLES)
    arguments.add_argument("--output", metavar="URI", required=True, help="the output of jobs.annotate")
    arguments.add_argument("--release", metavar="NAME", required=True, help="the release's name: a folder of this name")
    add_config_arguments(arguments)
    arguments.add_argument(
        "--gate",
        dest="gates",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a limit, such as max_error_share=0.1; may be repeated",
    )
    arguments.add_argument("--allow-partial", action="store_true", help="leave unfinished shards out, whole")
    arguments.add_argument("--verbose", action="store_true", help="log more")
    return arguments.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Publishes, and prints what came of it."""
    options = options_of(argv)
    name = checked_name(options.release)
    config = apply_overrides(config_of(options), _gates(options.gates))
    console_and_logging(verbose=options.verbose)
    specs = build_specs(config)
    store = Store.open(options.output)
    run_id = new_run_id()
    with Lease.acquire(store, run_id, name=LEASE) as lease:
        published = Publish(
            name=name,
            config=config,
            specs=specs,
            store=store,
            output_uri=options.output,
            lease=lease,
            run_id=run_id,
            allow_partial=options.allow_partial,
        ).execute()
    print(summary(published, store))
    return GATE_EXIT if published.state == "refused" else 0


def summary(published: Published, store: Store) -> str:
    """The end of a publish in a few lines."""
    latest = "LATEST was moved to it" if published.latest_moved else "LATEST names it already"
    report = f"Report: {published.report_uri}"
    if published.state == "unchanged":
        return f"Nothing to do: release {published.release} holds exactly this; {latest}.\n{report}"
    if published.state == "refused":
        lines = [f"Not released: {len(published.failures)} of {len(published.results)} gates failed; LATEST stays."]
        lines += [f"  {result.says()}; its limit: --gate {result.setting}=VALUE" for result in published.failures]
        return "\n".join([*lines, report])
    judged = [result for result in published.results if result.state != "skipped"]
    skipped = len(published.results) - len(judged)
    where = store.uri(f"releases/{published.release}/")
    gates = f"{len(judged)} gates passed" + (f", {skipped} had nothing to judge" if skipped else "")
    return f"Released {published.items} items to {where}: {gates}; {latest}.\n{report}"


def _gates(settings: Sequence[str]) -> dict[str, object]:
    """`--gate name=value` as overrides of the config.

    Raises:
        UserError: One has no `=`.
    """
    for setting in settings:
        if "=" not in setting.partition(".")[0]:
            raise UserError(f"--gate {setting}: expected name=value")
    return parse_settings(f"publish.gates.{setting}" for setting in settings)


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
