"""The task that turns a shard's id into the lines that enter the graph."""

import functools
import pickle
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray

from pipeline.gate import GateHandle
from pipeline.plan import NONE, ShardTask
from pipeline.select import select_rows
from pipeline.spec import Specs
from records.flow import FlowRow, flow_table, header
from records.items import CatalogItem
from records.schemas import StageRow
from storage.catalog import Catalog
from storage.stage_tables import StageTables
from storage.stores import Store, StoreConfig


def live_items(catalog: Catalog, shard_id: str) -> list[CatalogItem]:
    """The items of a shard that are neither superseded by a newer version nor deleted, in the shard's order."""
    removed = catalog.removed(shard_id)
    return [item for item in catalog.read_shard(shard_id) if item.key not in removed]


def fetchable_items(catalog: Catalog, shard_id: str) -> list[CatalogItem]:
    """The live items with the URIs to fetch them from: presigned URLs as they were listed last. Not to be shown."""
    locations = catalog.locations(shard_id)
    items = live_items(catalog, shard_id)
    return [replace(item, uri=locations[item.key]) if item.key in locations else item for item in items]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReader:
    """Reads a shard's items, metadata and the stored texts that its pending stages need.

    Pickled to the tasks that run it; the stores are opened there.
    """

    output_uri: str
    specs: Specs
    catalog_revision: int
    gate: GateHandle
    """Handle of the gate's actor."""
    store: StoreConfig

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        """The lines of the one shard that the batch names: none once the run is to stop."""
        (pickled,) = batch["task"]
        task: ShardTask = pickle.loads(pickled)
        lines = self.lines(task)
        if not ray.get(self.gate.admit.remote(task.shard_id, len(lines))):
            return flow_table([])
        return flow_table([header(task.shard_id, len(lines)), *lines])

    def lines(self, task: ShardTask) -> list[FlowRow]:
        """The items of the shard that have work, with what their stages read."""
        catalog, tables = _open(self.output_uri, self.catalog_revision, self.store)
        metadata = (
            catalog.read_metadata(task.shard_id, task.metadata_generation) if task.metadata_generation != NONE else {}
        )
        return select_rows(
            task=task,
            items=fetchable_items(catalog, task.shard_id),
            metadata=metadata,
            tables={stage: self._stored(tables, stage, task) for stage in self._needed(task)},
            specs=self.specs,
        )

    def _needed(self, task: ShardTask) -> list[str]:
        """Stages whose stored lines decide or feed something: the pending ones and all that these read."""
        reads = {read for stage in task.targets for read in self.specs[stage].reads}
        return [stage for stage in self.specs if stage in task.existing and (stage in task.targets or stage in reads)]

    def _stored(self, tables: StageTables, stage: str, task: ShardTask) -> dict[tuple[str, int], StageRow]:
        rows = tables.read(stage, self.specs[stage].fingerprint, task.shard_id, task.existing[stage])
        return {row.key: row for row in rows}


@functools.lru_cache(maxsize=2)
def _open(output_uri: str, catalog_revision: int, config: StoreConfig) -> tuple[Catalog, StageTables]:
    """Opened once a worker process: which files a revision holds is a list of all shards."""
    store = Store.open(output_uri, retry=config.retry, limits=config.limits)
    catalog = Catalog.open(store)
    assert catalog is not None, "a plan was made from this catalog"
    assert catalog.revision == catalog_revision, "the lease keeps others from refreshing the catalog"
    return catalog, StageTables(store)
