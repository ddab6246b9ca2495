"""Publishing in tests: one call, in this process or on Ray, and what a release holds read back with plain readers."""

import contextlib
import io
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import RunConfig
from pipeline.graph import GraphConfig
from pipeline.publish import Publish, Published
from pipeline.publish_config import PublishConfig
from pipeline.publish_tasks import TaskRunner, ray_tasks
from pipeline.quality_gates import GateLimits
from pipeline.ray_session import LocalRayConfig
from pipeline.run import new_run_id
from pipeline.spec import Specs
from storage.leases import Lease
from storage.releases import LEASE
from storage.stores import Store
from tests.pipeline.stage_maker import SPECS, Maker, ids_of, publish_config

SMALL_PARTS = 60_000
"""Bytes of an items file: a few shards of eight."""


@contextlib.contextmanager
def tasks_here(local: LocalRayConfig, graph: GraphConfig, config: PublishConfig) -> Iterator[TaskRunner]:
    """Runs tasks in this process, pickled as they would travel."""

    def run(tasks: Sequence[Any], work: Callable[[Any], dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for task in tasks:
            yield pickle.loads(pickle.dumps(work))(pickle.loads(pickle.dumps(task)))

    yield run


def publish(
    uri: str,
    name: str,
    config: RunConfig,
    *,
    specs: Specs = SPECS,
    allow_partial: bool = False,
    on_ray: bool = False,
) -> Published:
    """One publish as `jobs.publish` does it."""
    store, run_id = Store.open(uri), new_run_id()
    with Lease.acquire(store, run_id, name=LEASE) as lease:
        return Publish(
            name=name,
            config=config,
            specs=specs,
            store=store,
            output_uri=uri,
            lease=lease,
            run_id=run_id,
            allow_partial=allow_partial,
            open_tasks=ray_tasks if on_ray else tasks_here,
        ).execute()


CONFIG = publish_config(part_bytes=SMALL_PARTS, row_group_rows=10, gallery_items=2)


def filled(uri: str, items: int = 60, **maker: Any) -> Maker:  # noqa: ANN401 - Maker's fields
    made = Maker(store=Store.open(uri), **maker)
    made.fill(made.list_items(ids_of(items)))
    return made


def manifest_of(uri: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Store.open(uri).read_bytes(f"releases/{name}/manifest.json"))
    return found


def with_gates(**limits: Any) -> RunConfig:  # noqa: ANN401 - GateLimits' fields
    return replace(CONFIG, publish=replace(CONFIG.publish, gates=GateLimits(**limits)))


def objects(uri: str, prefix: str = "releases/") -> dict[str, bytes]:
    """Every object below a prefix."""
    store = Store.open(uri)
    return {entry.path: store.read_bytes(entry.path) for entry in store.list(prefix)}


def items_of(uri: str, name: str) -> list[dict[str, Any]]:
    """The rows of a release, in order of its parts."""
    return [line for table in _parts(uri, name) for line in table.to_pylist()]


def _parts(uri: str, name: str) -> list[pa.Table]:
    found = objects(uri, f"releases/{name}/items/")
    return [pq.read_table(pa.BufferReader(data)) for _, data in sorted(found.items())]


def ids_and_vectors(uri: str, name: str, view: str) -> tuple[list[dict[str, Any]], Any]:
    """Lines of `item_ids.parquet`, and a view's array as numpy loads it."""
    found = objects(uri, f"releases/{name}/")
    ids = pq.read_table(pa.BufferReader(found[f"releases/{name}/item_ids.parquet"])).to_pylist()
    return ids, np.load(io.BytesIO(found[f"releases/{name}/vectors/{view}.npy"]), allow_pickle=False)
