"""`python -m jobs.prune`: what older fingerprints, generations and unfinished releases hold; removes it on `--yes`."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from jobs.cli import EXIT_CODES, add_config_arguments, config_of, end_process, parser, run_command
from pipeline.assemble import build_specs
from pipeline.run import new_run_id
from records.errors import UserError
from records.outcomes import STAGES
from storage.backends import DELETE_PATHS
from storage.catalog import Catalog
from storage.leases import Lease
from storage.releases import LEASE as PUBLISH_LEASE
from storage.releases import Releases, release_path
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that could go."""

    tables: list[Removable]
    leftovers: list[str]
    """The catalog's."""
    unfinished: dict[str, list[str]]
    """Release to its objects."""

    def __bool__(self) -> bool:
        return bool(self.tables or self.leftovers or self.unfinished)


def found_in(store: Store, catalog: Catalog, current: dict[str, str]) -> Found:
    """What could go of an output whose leases are held."""
    return Found(
        tables=list(removable(StageTables(store), current)),
        leftovers=list(catalog.unused_paths()),
        unfinished=dict(Releases(store).unfinished()),
    )


def remove(store: Store, found: Found, check: Callable[[], None]) -> int:
    """Removes it, and returns how many files.

    Args:
        check: Called before each request: raises BusyError where a lease was lost, since another command may then be at
            work on what was found.
    """
    tables, releases = StageTables(store), Releases(store)
    for one in found.tables:
        for start in range(0, len(one.files), DELETE_PATHS):
            check()
            tables.delete(one.stage, one.fingerprint, one.files[start : start + DELETE_PATHS])
    removed = sum(len(one.files) for one in found.tables) + _delete(store, found.leftovers, check)
    for name, paths in found.unfinished.items():
        if releases.manifest(name) is not None:  # by now: then only what its publish kept aside may go
            paths = [path for path in paths if not path.startswith(release_path(name, ""))]
        check()
        releases.abort_uploads(name)
        removed += _delete(store, paths, check)
    return removed


def _delete(store: Store, paths: Sequence[str], check: Callable[[], None]) -> int:
    for start in range(0, len(paths), DELETE_PATHS):
        check()
        store.delete(paths[start : start + DELETE_PATHS])
    return len(paths)


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
    run_id = new_run_id()
    with Lease.acquire(store, run_id) as lease, Lease.acquire(store, run_id, name=PUBLISH_LEASE) as publishing:

        def check() -> None:
            lease.check()
            publishing.check()

        catalog = Catalog.open(store)  # again: a listing may have ended before the lease was free
        if catalog is None:
            raise _no_catalog(store)
        found = found_in(store, catalog, current)
        _print(found)
        swept = 0
        if options.yes:
            check()
            swept = store.sweep()
        if not found and not swept:
            print("nothing to remove")
        elif not options.yes:
            print("nothing was removed: add --yes to remove these files")
        else:
            removed = remove(store, found, check)
            if swept:
                print(f"{'output':<15} {'':<16}  {swept:>8} files  half-written, a day old or more")
            print(f"removed {removed + swept} files")
    return 0


def _print(found: Found) -> None:
    for one in found.tables:
        print(f"{one.stage:<15} {one.fingerprint}  {len(one.files):>8} files  {one.reason}")
    if found.leftovers:
        print(f"{'catalog':<15} {'':<16}  {len(found.leftovers):>8} files  older listings")
    for name, paths in found.unfinished.items():
        print(f"{'release':<15} {name:<16}  {len(paths):>8} files  never finished")


def _no_catalog(store: Store) -> UserError:
    return UserError(f"{store.root} has no catalog: nothing was listed there, or its catalog/ is gone")


if __name__ == "__main__":
    end_process(run_command(main, sys.argv[1:]))
