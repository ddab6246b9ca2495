"""Which shards hold failures that are to run again, read from the footers of their newest files."""

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from pipeline.spec import Specs
from records.errors import FailureKind, UserError
from storage.stage_tables import Footer


class FailureCounts(Protocol):
    """What retrying asks of the stage tables."""

    def generations(self, stage: str, fingerprint: str) -> Iterator[tuple[str, int]]: ...

    def footer(self, stage: str, fingerprint: str, shard_id: str, generation: int) -> Footer: ...


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
    tables: FailureCounts, specs: Specs, stages: Collection[str], kinds: frozenset[str]
) -> dict[str, dict[int, frozenset[str]]]:
    """Stage to shard index to the kinds of failure there that are to run again; `kinds` empty means all."""
    found: dict[str, dict[int, frozenset[str]]] = {}
    for stage in stages:
        for shard_id, generation in tables.generations(stage, specs[stage].fingerprint):
            counts = tables.footer(stage, specs[stage].fingerprint, shard_id, generation).failures
            chosen = frozenset(kind for kind in counts if not kinds or kind in kinds)
            if chosen:
                found.setdefault(stage, {})[int(shard_id)] = chosen
    return found
