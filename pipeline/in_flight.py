"""How many workers can have work at once: as many as there are blocks, of those that the gate lets be on their way."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actors.stage import PoolConfig
from pipeline.gate import GateConfig
from pipeline.graph import GraphConfig
from pipeline.plan import Plan
from pipeline.spec import Specs, StageSpec


def call_rows(spec: StageSpec, graph: GraphConfig) -> int:
    """Rows that one call of a stage gets, where there are so many."""
    return graph.block_rows if spec.is_media and not spec.pool.num_gpus else spec.pool.batch_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """What bounds a run's workers beside its cluster."""

    graph: GraphConfig
    gate: GateConfig
    shards: int
    """Shards that have work."""
    shard_rows: int
    """Items of the largest of them."""

    @classmethod
    def of(cls, plan: Plan, live: npt.NDArray[np.int64], graph: GraphConfig, gate: GateConfig) -> "InFlight":
        """The bounds of a plan.

        Args:
            live: (S,) live items of every shard of the catalog.
        """
        items = live[plan.order]
        return cls(graph=graph, gate=gate, shards=len(items), shard_rows=int(items.max(initial=1)))

    def most(self, spec: StageSpec, rows: int, *, of_texts: bool) -> int:
        """Workers that a stage is planned with, and begins with, at most.

        No more than have work at once, and no engine, or encoder of texts, beside one that has calls free.

        Args:
            rows: Items that the stage has to do.
            of_texts: Whether its phase reads only texts.
        """
        pool = spec.pool
        bound = self.workers_of_texts(pool, rows) if of_texts else self.workers(spec, rows)
        filled = math.ceil(rows / (pool.batch_rows * pool.calls)) if pool.num_gpus or not spec.is_media else bound
        return max(1, min(bound, filled))

    def workers(self, spec: StageSpec, rows: int) -> int:
        """Workers of a stage that can have work at once, where rows come out of media stages: they are joined to calls.

        Args:
            rows: Items that the stage has to do.
        """
        block = call_rows(spec, self.graph)
        full = max(self.gate.max_rows_out, self._task_rows) // (block * spec.pool.calls)
        return max(1, min(math.ceil(rows / block), full))

    def workers_of_texts(self, pool: PoolConfig, rows: int) -> int:
        """Likewise where only texts are read: each has whole blocks, and none holds more than one task has read."""
        tasks = min(math.ceil(rows / self._task_rows), max(1, self.gate.max_rows_out // self._task_rows))
        blocks = tasks * math.ceil(min(rows, self._task_rows) / self.graph.text_block_rows)
        return max(1, blocks // pool.calls)

    def shortage(self, specs: Specs, workers: Mapping[str, int], items: int) -> str | None:
        """What to say where the workers of a phase cannot all have rows at once: a row is in one stage at a time.

        Args:
            workers: Stage to its workers.
            items: Items to do: with no more than the gate lets out it holds nobody up.
        """
        held = sum(
            count * specs[name].pool.calls * call_rows(specs[name], self.graph) for name, count in workers.items()
        )
        let_out = self.gate.max_rows_out
        if min(held, items) <= let_out:
            return None
        return (
            f"all workers at once hold {held} rows and gate.max_rows_out lets {let_out} be on their way: some will "
            f"starve, unless it is raised to {held} or more"
        )

    @property
    def _task_rows(self) -> int:
        """Rows that one task reads, which the gate lets in together."""
        return max(1, self.shard_rows * math.ceil(self.shards / self.graph.max_reads))
