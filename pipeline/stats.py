"""What a run counts while it goes: the numbers behind the progress display and the report."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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


def kinds_text(errors: Mapping[str, int], stream_errors: Mapping[str, int]) -> str:
    """Kinds with their counts, in one line; failures of single streams said apart, since they cost no row."""
    parts = [", ".join(f"{kind} {count}" for kind, count in sorted(errors.items()))]
    if stream_errors:
        streams = ", ".join(f"{kind} {count}" for kind, count in sorted(stream_errors.items()))
        parts.append(f"(in one stream of good rows: {streams})")
    return " ".join(part for part in parts if part)


class RunStats:
    """Counts rows as they arrive, each once."""

    def __init__(self, stages: Iterable[str]) -> None:
        self.stages: dict[str, StageStats] = {stage: StageStats() for stage in stages}

    def add_row(self, line: FlowRow) -> None:
        """Counts one item with the outcome of each of its pending stages."""
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
