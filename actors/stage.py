"""What every stage is: a plain class that takes rows and returns one outcome for each, in order.

Constructed means ready: the pipeline builds a stage inside the worker that will run it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from records.errors import Failure
from records.items import Row

R = TypeVar("R")


class Stage(Protocol[R]):
    """A stage, called from several threads at once where its pool says `calls` above 1.

    The pipeline hands it only rows whose inputs are good: a row whose decode failed never arrives.
    """

    def __call__(self, rows: Sequence[Row]) -> list[R | Failure]:
        """One outcome for each row, in order: the stage's own record, or a `Failure` for a bad item.

        Raises:
            FatalError: The engine is dead; the stage must be closed and built again.
        """
        ...

    def close(self) -> None:
        """Frees what the stage holds: engines, child processes. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How many workers a stage gets and what each needs. Never part of a fingerprint.

    Raises:
        ValueError: A bound is out of order or below what Ray takes.
    """

    min_actors: int = 1
    """Workers that must be there before the stage starts."""
    max_actors: int = 1
    """Workers that it may grow to."""
    num_gpus: float = 0.0
    """GPUs a worker; a fraction shares one."""
    num_cpus: float = 1.0
    """Cores a worker."""
    memory_bytes: int = 0
    """Main memory a worker, as Ray counts it; 0 reserves none."""
    batch_rows: int = 8
    """Rows a call."""
    calls: int = 1
    """Calls at a time in one worker; above 1 only for stages that wait on an engine."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_actors <= self.max_actors:
            raise ValueError(f"pool needs 1 <= min_actors <= max_actors, not {self.min_actors} and {self.max_actors}")
        if self.num_gpus < 0 or self.num_cpus < 0 or self.memory_bytes < 0:
            raise ValueError("pool: num_gpus, num_cpus and memory_bytes must not be negative")
        if self.batch_rows < 1 or self.calls < 1:
            raise ValueError("pool: batch_rows and calls must be at least 1")
