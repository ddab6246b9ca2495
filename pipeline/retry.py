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
    tables: FailureCounts, specs: Specs, stages: Collection[str], kinds: frozenset[str]
) -> dict[str, dict[int, frozenset[str]]]:
    """Stage to shard index to the kinds of failure there that are to run again; `kinds` empty means all."""
    found: dict[str, dict[int, frozenset[str]]] = {}
    for stage in stages:
        for shard_id, footer in _footers(tables, stage, specs[stage].fingerprint):
            chosen = frozenset(kind for kind in footer.failures if not kinds or kind in kinds)
            if chosen:
                found.setdefault(stage, {})[int(shard_id)] = chosen
    return found


def _footers(tables: FailureCounts, stage: str, fingerprint: str) -> Iterator[tuple[str, Footer]]:
    """Shard and footer of each newest file, in order; several are read at a time."""

    def read(file: tuple[str, int, int]) -> Footer:
        shard_id, generation, size_bytes = file
        return tables.footer(stage, fingerprint, shard_id, generation, size_bytes)

    for (shard_id, _, _), footer in answers(tables.newest_files(stage, fingerprint), read):
        yield shard_id, footer
