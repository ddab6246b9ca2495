"""What a run counts while it goes: the numbers behind the progress display and the report."""

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from records.errors import Failure
from records.failures import failures_of
from records.flow import FlowRow
from records.outcomes import AudioDescription, Caption


@dataclass(slots=True, kw_only=True)
class StageStats:
    """One stage of one run."""

    results: int = 0
    """Items that it made a result of."""
    failed: int = 0
    """Items that it, or a stage before it, could not do."""
    errors: Counter[str] = field(default_factory=Counter)
    """Those by kind."""
    stream_errors: Counter[str] = field(default_factory=Counter)
    """Kinds of failure of single streams, in items that it did make a result of."""
    busy_seconds: float = 0.0
    """Seconds in which its workers were at work, summed over workers."""
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def rows(self) -> int:
        """Items that went through."""
        return self.results + self.failed

    @property
    def rows_per_busy_second(self) -> float:
        """What one worker does in a second of work; 0 where none has worked."""
        return self.rows / self.busy_seconds if self.busy_seconds else 0.0


def kinds_text(errors: Mapping[str, int], stream_errors: Mapping[str, int]) -> str:
    """Kinds with their counts, in one line; failures of single streams said apart, since they cost no row."""
    parts = [", ".join(f"{kind} {count}" for kind, count in sorted(errors.items()))]
    if stream_errors:
        streams = ", ".join(f"{kind} {count}" for kind, count in sorted(stream_errors.items()))
        parts.append(f"(in one stream of good rows: {streams})")
    return " ".join(part for part in parts if part)


class RowForecast:
    """How many rows a phase will bring. A retry runs few of a shard's items, which ones only its reader finds.

    So the live items of all shards, less those that a journal brought, are scaled by the share of them that was issued
    in the shards that are known: those of which a row is back, since it says how many were issued with it, and those
    committed without any. Once every shard is known that is exact.

    Args:
        live: (S,) live items of every shard of the catalog.
        order: Numbers of the phase's shards.
        journalled: Shard to its items that a journal brought.
    """

    def __init__(
        self, live: npt.NDArray[np.int64], order: npt.NDArray[np.int64], journalled: Mapping[str, int]
    ) -> None:
        self._may_run = live.copy()
        for shard_id, items in journalled.items():
            self._may_run[int(shard_id)] = max(self._may_run[int(shard_id)] - items, 0)
        self._total = int(self._may_run[order].sum())
        self._seen: set[str] = set()
        self._seen_may_run = 0
        self._issued = 0

    def row(self, line: FlowRow) -> None:
        """A row is back. Its shard's first says what was issued: a later pass issues only what the first one lost."""
        if line.shard_id not in self._seen:
            self._seen.add(line.shard_id)
            self._seen_may_run += int(self._may_run[int(line.shard_id)])
            self._issued += line.issued_rows

    def expected_rows(self, committed: AbstractSet[str]) -> int:
        """The estimate; all items that may run while no shard is known.

        Args:
            committed: The shards that this phase has committed.
        """
        known = self._seen_may_run + sum(int(self._may_run[int(shard_id)]) for shard_id in committed - self._seen)
        if not known or (not self._issued and known < self._total):
            return max(self._total, self._issued)
        return max(round(self._issued * self._total / known), self._issued)


class RunStats:
    """Counts rows as they arrive, each once."""

    def __init__(self, stages: Iterable[str]) -> None:
        self.stages: dict[str, StageStats] = {stage: StageStats() for stage in stages}
        self.forecast: RowForecast | None = None
        """Of the phase under way."""

    def add_row(self, line: FlowRow) -> None:
        """Counts one item with the outcome of each of its pending stages."""
        if self.forecast is not None:
            self.forecast.row(line)
        for stage in line.pending:
            stats, outcome = self.stages[stage], line.outcomes[stage]
            if isinstance(outcome, Failure):
                stats.failed += 1
                stats.errors[str(outcome.kind)] += 1
            else:
                stats.results += 1
                stats.stream_errors.update(str(failure.kind) for failure in failures_of(outcome))
            if isinstance(outcome, Caption | AudioDescription):
                stats.prompt_tokens += outcome.prompt_tokens
                stats.output_tokens += outcome.output_tokens

    def add_spent(self, seconds: Mapping[str, float]) -> None:
        """Adds the busy seconds that came with a block."""
        for stage, spent in seconds.items():
            self.stages.setdefault(stage, StageStats()).busy_seconds += spent
