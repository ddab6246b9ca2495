"""The circuit breaker: many rows failing alike are not bad videos but a broken credential or model."""

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from records.errors import FailureKind

NOT_THE_VIDEOS = frozenset(
    {
        FailureKind.FORBIDDEN,
        FailureKind.THROTTLED,
        FailureKind.UNREACHABLE,
        FailureKind.NO_SPACE,
        FailureKind.ENGINE_ERROR,
        FailureKind.WORKER_CRASHED,
    }
)
"""Kinds that tell of a store, a credential or a worker, and not of a video."""

OF_THE_CATALOG = frozenset({FailureKind.NO_BYTES})
"""Kinds that the catalog told before anything ran: however many there are, nothing that the run uses is broken."""


def doubted(kinds: Collection[str]) -> frozenset[str]:
    """Those of a row's kinds of failure that may not be its own fault."""
    return frozenset(kinds) - OF_THE_CATALOG


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When a run gives up on a kind of failure. Never part of a fingerprint.

    Raises:
        ValueError: A share outside (0, 1] or a window below its minimum.
    """

    max_error_share: float = 0.2
    """Share of the last rows that one kind of failure may have."""
    window_rows: int = 1000
    """How many rows back it looks."""
    min_rows: int = 100
    """A shorter window counts as if it had so many rows: a small folder with a few broken files runs through."""

    def __post_init__(self) -> None:
        if not 0 < self.max_error_share <= 1:
            raise ValueError(f"max_error_share must be in (0, 1], not {self.max_error_share}")
        if not 1 <= self.min_rows <= self.window_rows:
            raise ValueError(f"breaker: 1 <= min_rows <= window_rows, not {self.min_rows} and {self.window_rows}")


class Breaker:
    """Counts kinds of failure over the last rows; once it trips it stays tripped."""

    def __init__(self, config: BreakerConfig, *, enabled: bool = True) -> None:
        self._config = config
        self._enabled = enabled
        self._window: deque[frozenset[str]] = deque()
        self._counts: Counter[str] = Counter()
        self.rows = 0
        """Rows seen in all, but for those of which the catalog knew that they fail."""
        self.tripped: str | None = None
        """The kind that broke the run, or None."""

    @property
    def settle_rows(self) -> int:
        """How many further rows must arrive before a failure is taken for the video's own fault.

        A whole window: had one kind kept failing at more than its share, the breaker would have tripped by then.
        """
        return self._config.window_rows if self._enabled else 0

    def record(self, kinds: Collection[str]) -> None:
        """Counts one row with the kinds of failure it has, none for a good one.

        A row of which the catalog knew that it fails counts neither way: it would hide others in the window.
        """
        judged = doubted(kinds)
        if kinds and not judged:
            return
        self.rows += 1
        self._window.append(judged)
        self._counts.update(judged)
        if len(self._window) > self._config.window_rows:
            self._counts.subtract(self._window.popleft())
        if self._enabled and self.tripped is None:
            limit = self._config.max_error_share * max(len(self._window), self._config.min_rows)
            over = [kind for kind, count in self._counts.items() if count > limit]
            self.tripped = min(over) if over else None

    def end(self) -> None:
        """No further row will come. What fails for no video's fault is judged by the last `min_rows` rows alone.

        Credentials may have expired within less than a window of the end, and no good row can come to show it.
        """
        if not self._enabled or self.tripped is not None:
            return
        last = islice(reversed(self._window), self._config.min_rows)
        counts = Counter(kind for kinds in last for kind in kinds & NOT_THE_VIDEOS)
        over = [kind for kind, count in counts.items() if count > self._config.max_error_share * self._config.min_rows]
        self.tripped = min(over) if over else None
