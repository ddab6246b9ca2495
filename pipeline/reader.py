"""The task that turns shards into the lines that enter the graph."""

import functools
import logging
import pickle
import threading
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray

from pipeline.gate import GateHandle
from pipeline.plan import NONE, ShardTask
from pipeline.select import select_rows
from pipeline.spec import Specs
from records.errors import one_line
from records.flow import FlowRow, flow_table, header
from records.items import CatalogItem, Metadata
from records.schemas import StageRow
from storage.catalog import Catalog
from storage.prefetch import answers
from storage.stage_tables import StageTables
from storage.stores import Store, StoreConfig

logger = logging.getLogger(__name__)

SHARDS_AT_ONCE = 8
"""Shards of one task that are read side by side: each is some small objects, one after the other."""

_opening = threading.Lock()


def live_items(catalog: Catalog, shard_id: str) -> list[CatalogItem]:
    """The items of a shard that are neither superseded by a newer version nor deleted, in the shard's order."""
    return list(numbered_items(catalog, shard_id).values())


def fetchable_items(catalog: Catalog, shard_id: str) -> dict[int, CatalogItem]:
    """The live items by their position in the shard, which no revision of the catalog changes.

    With the URIs to fetch them from: presigned URLs as they were listed last. Not to be shown.
    """
    locations = catalog.locations(shard_id)
    return {
        position: replace(item, uri=locations[item.key]) if item.key in locations else item
        for position, item in numbered_items(catalog, shard_id).items()
    }


def numbered_items(catalog: Catalog, shard_id: str) -> dict[int, CatalogItem]:
    """The live items by their position in the shard."""
    removed = catalog.removed(shard_id)
    return {n: item for n, item in enumerate(catalog.read_shard(shard_id)) if item.key not in removed}


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
        """The lines of the shards that the batch names: none once the run is to stop."""
        (pickled,) = batch["tasks"]
        tasks: list[ShardTask] = pickle.loads(pickled)
        found = answers(tasks, self._lines_or_none, at_once=min(len(tasks), SHARDS_AT_ONCE))
        read = {task.shard_id: lines for task, lines in found if lines is not None}
        if not read or not ray.get(self.gate.admit.remote({shard_id: len(lines) for shard_id, lines in read.items()})):
            return flow_table([])
        return flow_table([line for shard_id, lines in read.items() for line in (header(shard_id, len(lines)), *lines)])

    def _lines_or_none(self, task: ShardTask) -> list[FlowRow] | None:
        """The lines, or None where the shard could not be read: the driver hears why and has it read once more."""
        try:
            return self.lines(task)
        except Exception as error:
            logger.exception("shard_id=%s cannot be read", task.shard_id)
            ray.get(self.gate.cannot_read.remote(task.shard_id, one_line(error)))
            return None

    def lines(self, task: ShardTask) -> list[FlowRow]:
        """The items of the shard that have work, with what their stages read."""
        with _opening:  # one thread opens for all
            catalog, tables = _open(self.output_uri, self.catalog_revision, self.store)
        known = task.metadata_generation != NONE
        metadata = catalog.metadata_rows(task.shard_id, task.metadata_generation) if known else []
        return select_rows(
            task=task,
            items=fetchable_items(catalog, task.shard_id),
            metadata={(row.video_id, row.version): Metadata(title=row.title, extra=row.extra) for row in metadata},
            titles={(row.video_id, row.version): row.generation for row in metadata},
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
