"""What one invocation of `jobs.annotate` asks for."""

from dataclasses import dataclass

from cluster.prices import PriceTable
from pipeline.run_plan import RunPlan
from records.errors import UserError
from storage.catalog import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What one invocation asks for, beyond the config."""

    output_uri: str
    recipe: str = ""
    """For the report only."""
    stages: tuple[str, ...] | None = None
    """Stages to run; None for all of the graph."""
    retry_kinds: frozenset[str] | None = None
    """Kinds of failure to run again; empty for every kind; None for none."""
    shards: tuple[int, int | None] | None = None
    """First shard that this run may touch and the one behind the last (None: to the end); None for all."""
    limit: int | None = None
    """Whole shards are run until so many items are reached; None for no limit."""
    order: str = "oldest"
    """Which shards go first, as `pipeline.order` reads it."""
    plan: RunPlan | None = None
    """Its phases, and for the report its prediction and prices."""
    prices: PriceTable | None = None
    """What nodes cost, for the report; of the plan where this is None."""

    def shards_in(self, catalog: Catalog) -> range | None:
        """The shards as a range.

        Raises:
            UserError: The catalog ends before the first.
        """
        if self.shards is None:
            return None
        start, stop = self.shards
        if start >= catalog.shard_count:
            raise UserError(f"--shard-range: there is no shard {start}, the catalog has {catalog.shard_count}")
        return range(start, catalog.shard_count if stop is None else min(stop, catalog.shard_count))
