"""Which shards hold failures that are to run again, read from the footers of their newest files."""

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from pipeline.spec import Specs
from records.errors import FailureKind, UserError
from storage.prefetch import answers
from storage.stage_tables import Footer


class FailureCounts(Protocol):
    """What retrying asks of the stage tables."""

    def newest_files(self, stage: str, fingerprint: str) -> Iterator[tuple[str, int, int]]: ...

    def footer(
        self, stage: str, fingerprint: str, shard_id: str, generation: int, size_bytes: int | None = None
    ) -> Footer: ...


def parse_kinds(kinds: Iterable[str]) -> frozenset[str]:
    """Kinds as given on a command line; none means every kind.

    Raises:
        UserError: A kind does not exist.
    """
    known = [str(kind) for kind in FailureKind]
    chosen = frozenset(kinds)
    unknown = sorted(chosen - set(known))
    if unknown:
        raise UserError(f"no kind of failure {unknown[0]!r}; the kinds are {', '.join(known)}")
    return chosen


def failed_shards(
    tables: FailureCounts,
    specs: Specs,
    stages: Collection[str],
    kinds: frozenset[str],
    shards: int,
    shard_range: range | None = None,
) -> dict[str, dict[int, frozenset[str]]]:
    """Stage to shard index to the kinds of failure there that are to run again.

    Args:
        tables: The stage files.
        specs: The whole graph.
        stages: Those whose failures may run again.
        kinds: Kinds of failure; empty means all.
        shards: How many the catalog has. Files of others are left out, as a plan leaves them out.
        shard_range: Indices of the shards that this run may touch; None for all. Of no other a footer is read.
    """
    found: dict[str, dict[int, frozenset[str]]] = {}
    wanted = range(shards) if shard_range is None else range(shard_range.start, min(shard_range.stop, shards))
    for stage in stages:
        for shard_id, footer in _footers(tables, stage, specs[stage].fingerprint, wanted):
            chosen = frozenset(kind for kind in footer.failures if not kinds or kind in kinds)
            if chosen:
                found.setdefault(stage, {})[int(shard_id)] = chosen
    return found


def _footers(tables: FailureCounts, stage: str, fingerprint: str, wanted: range) -> Iterator[tuple[str, Footer]]:
    """Shard and footer of the newest file of each wanted shard, in order; several are read at a time."""

    def read(file: tuple[str, int, int]) -> Footer:
        shard_id, generation, size_bytes = file
        return tables.footer(stage, fingerprint, shard_id, generation, size_bytes)

    newest = (file for file in tables.newest_files(stage, fingerprint) if int(file[0]) in wanted)
    for (shard_id, _, _), footer in answers(newest, read):
        yield shard_id, footer
