"""What every stage is: a plain class that takes rows and returns one outcome for each, in order.

Constructed means ready: the pipeline builds a stage inside the worker that will run it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

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
    """Rows a call: of a stage with GPUs, and of one that reads texts. Blocks are joined to so many and cut; a stage of
    media without GPUs gets each block as it is, of `graph.block_rows`."""
    calls: int = 1
    """Calls at a time in one worker; above 1 only for stages that wait on an engine."""
    accelerator_type: str | None = None
    """The GPU that a worker needs, as Ray names it: `H100`, `L4` …; None takes any."""
    nodes: Literal["auto", "any", "cpu"] = "auto"
    """Where workers without GPUs go: `auto` keeps them off nodes with GPUs where a cluster has others that hold them,
    which leaves those cores to the engines; `cpu` insists on that; `any` takes every node."""
    node_labels: dict[str, str] = field(default_factory=dict)
    """Labels that a worker's node must have, as Ray's label selectors: `value`, `!value`, `in(a,b)` or `!in(a,b)`."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_actors <= self.max_actors:
            raise ValueError(f"pool needs 1 <= min_actors <= max_actors, not {self.min_actors} and {self.max_actors}")
        if not all(0 <= amount < math.inf for amount in (self.num_gpus, self.num_cpus, self.memory_bytes)):
            raise ValueError("pool: num_gpus, num_cpus and memory_bytes must be finite and not negative")
        if self.batch_rows < 1 or self.calls < 1:
            raise ValueError("pool: batch_rows and calls must be at least 1")
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise ValueError(f"pool: num_gpus is a share of one GPU or a whole number of them, not {self.num_gpus:g}")
        if self.nodes not in ("auto", "any", "cpu"):
            raise ValueError(f"pool: nodes is auto, any or cpu, not {self.nodes!r}")
        if self.num_gpus and self.nodes == "cpu":
            raise ValueError("pool: workers with GPUs cannot keep to nodes without")
        if self.accelerator_type is not None and not self.num_gpus:
            raise ValueError("pool: accelerator_type needs num_gpus")
