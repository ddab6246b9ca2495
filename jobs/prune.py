"""`python -m jobs.prune`: what older fingerprints, generations and unfinished releases hold; removes it on `--yes`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.cli import EXIT_CODES, add_config_arguments, config_of, parser, run_command
from pipeline.assemble import build_specs
from pipeline.run import new_run_id
from records.errors import UserError
from records.outcomes import STAGES
from storage.catalog import Catalog
from storage.leases import Lease
from storage.releases import LEASE as PUBLISH_LEASE
from storage.releases import Releases
from storage.stage_tables import StageTables
from storage.stores import Store

EXAMPLES = f"""\
  python -m jobs.prune --output s3://features/clips --recipe modern          say what would go
  python -m jobs.prune --output s3://features/clips --recipe modern --yes    remove it

{EXIT_CODES}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removable:
    """Files of one stage and fingerprint that nothing of the config reads."""

    stage: str
    fingerprint: str
    reason: str
    files: tuple[tuple[str, int], ...]
    """Shard and generation."""


def removable(tables: StageTables, current: dict[str, str]) -> Iterator[Removable]:
    """Everything under another fingerprint, and every generation below a shard's highest."""
    for stage in STAGES:
        for fingerprint in tables.fingerprints(stage):
            files = list(tables.all_generations(stage, fingerprint))
            if current.get(stage) != fingerprint:
                yield Removable(stage=stage, fingerprint=fingerprint, reason="another fingerprint", files=tuple(files))
                continue
            highest = dict(files)
            older = tuple((shard_id, number) for shard_id, number in files if number < highest[shard_id])
            if older:
                yield Removable(stage=stage, fingerprint=fingerprint, reason="older generations", files=older)


def options_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    arguments = parser("prune", "Says what the given config no longer needs, and removes it on --yes.", EXAMPLES)
    arguments.add_argument("--output", metavar="URI", required=True, help="the output of jobs.annotate")
    add_config_arguments(arguments)
    arguments.add_argument("--yes", action="store_true", help="remove; without it nothing is touched")
    return arguments.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Lists what could go, and removes it where told to."""
    options = options_of(argv)
    specs = build_specs(config_of(options))
    store = Store.open(options.output)
    catalog = Catalog.open(store)
    if catalog is None:
        raise _no_catalog(store)
    tables = StageTables(store)
    current = {name: spec.fingerprint for name, spec in specs.items()}
    if not any(fingerprint in tables.fingerprints(stage) for stage, fingerprint in current.items()):
        raise UserError(
            f"nothing in {store.root} was made with this config, so all of it would go: check --recipe, --config and "
            "--set, or delete the folder"
        )
    releases, run_id = Releases(store), new_run_id()
    with Lease.acquire(store, run_id) as lease, Lease.acquire(store, run_id, name=PUBLISH_LEASE):
        catalog = Catalog.open(store)  # again: a listing may have ended before the lease was free
        if catalog is None:
            raise _no_catalog(store)
        found = list(removable(tables, current))
        leftovers = list(catalog.unused_paths())
        unfinished = dict(releases.unfinished())
        for one in found:
            print(f"{one.stage:<15} {one.fingerprint}  {len(one.files):>8} files  {one.reason}")
        if leftovers:
            print(f"{'catalog':<15} {'':<16}  {len(leftovers):>8} files  older listings")
        for name, paths in unfinished.items():
            print(f"{'release':<15} {name:<16}  {len(paths):>8} files  never finished")
        swept = 0
        if options.yes:
            lease.check()
            swept = store.sweep()
        if not found and not leftovers and not unfinished and not swept:
            print("nothing to remove")
        elif not options.yes:
            print("nothing was removed: add --yes to remove these files")
        else:
            for one in found:
                tables.delete(one.stage, one.fingerprint, one.files)
            released = [path for paths in unfinished.values() for path in paths]
            for name in unfinished:
                releases.abort_uploads(name)
            store.delete([*leftovers, *released])
            if swept:
                print(f"{'output':<15} {'':<16}  {swept:>8} files  half-written, a day old or more")
            total = sum(len(one.files) for one in found) + len(leftovers) + len(released) + swept
            print(f"removed {total} files")
    return 0


def _no_catalog(store: Store) -> UserError:
    return UserError(f"{store.root} has no catalog: there is nothing to prune")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
