"""Running the light graph, and reading back what it committed."""

import io
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from pipeline.breaker import BreakerConfig
from pipeline.config import RunConfig
from pipeline.graph import GraphConfig
from pipeline.limits import Limits
from pipeline.loop_config import LoopConfig
from pipeline.recipes import tiny
from pipeline.report import RunReport
from pipeline.run import Run, new_run_id
from pipeline.run_request import RunRequest
from pipeline.spec import Specs
from pipeline.stop import StopFlag
from storage.catalog import Catalog
from storage.leases import Lease
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.records.as_dict import to_dict

BASE = replace(
    tiny(),
    graph=GraphConfig(block_rows=4, start_timeout_seconds=300.0, stuck_seconds=180.0),
    loop=LoopConfig(journal_seconds=1.0, drain_seconds=5.0),
    breaker=BreakerConfig(max_error_share=0.5, window_rows=100, min_rows=20),
)


def run_light(
    output: Path,
    specs: Specs,
    *,
    config: RunConfig = BASE,
    limits: Limits | None = None,
    console: Console | None = None,
    flag: StopFlag | None = None,
    **request: Any,  # noqa: ANN401 - RunRequest's fields
) -> RunReport:
    """One run on `output`, in this process."""
    store = Store.open(str(output))
    run_id = new_run_id()
    with Lease.acquire(store, run_id) as lease:
        run = Run(
            request=RunRequest(output_uri=str(output), **request),
            config=config,
            specs=specs,
            store=store,
            lease=lease,
            run_id=run_id,
            console=console or Console(file=io.StringIO()),
            limits=limits or Limits(),
            flag=flag or StopFlag(),
        )
        return run.execute()


def all_cpus_are_free(within_seconds: float) -> bool:
    """Whether no worker of this process's runs holds a CPU any more."""
    until = time.monotonic() + within_seconds
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:  # type: ignore[no-untyped-call]
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def committed(output: Path | str, specs: Specs) -> dict[str, dict[str, dict[str, object]]]:
    """Stage to video id to the outcome in the newest file, as plain values."""
    store = Store.open(str(output))
    tables = StageTables(store)
    found: dict[str, dict[str, dict[str, object]]] = {}
    for stage, spec in specs.items():
        for shard_id, generation in tables.generations(stage, spec.fingerprint):
            for row in tables.read(stage, spec.fingerprint, shard_id, generation):
                lines = found.setdefault(stage, {})
                assert row.video_id not in lines, f"{row.video_id} is twice in {stage}"
                lines[row.video_id] = {"type": type(row.outcome).__name__, **_plain(to_dict(row.outcome))}
    return found


def _plain(values: Mapping[str, Any]) -> dict[str, object]:
    return {
        name: _plain(value) if isinstance(value, dict) else value.tolist() if hasattr(value, "tolist") else value
        for name, value in values.items()
    }


def same_tables(tables: object, expected: object, place: str = "tables") -> None:
    """Ids, errors, texts and counts are equal; vectors, times and scores within 1e-5."""
    if isinstance(expected, dict) and isinstance(tables, dict):
        assert tables.keys() == expected.keys(), place
        for name, value in expected.items():
            same_tables(tables[name], value, f"{place}.{name}")
    elif isinstance(expected, list | tuple) and isinstance(tables, list | tuple):
        assert len(tables) == len(expected), place
        for index, (one, other) in enumerate(zip(tables, expected, strict=True)):
            same_tables(one, other, f"{place}[{index}]")
    elif isinstance(expected, float) and isinstance(tables, float):
        assert abs(tables - expected) <= 1e-5, f"{place}: {tables} and {expected}"
    else:
        assert tables == expected, place


def stage_files(output: Path) -> dict[str, bytes]:
    """Every committed stage file and its bytes."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted((output / "stages").rglob("*.parquet"))}


def items_in_catalog(output: Path) -> int:
    catalog = Catalog.open(Store.open(str(output)))
    assert catalog is not None
    return catalog.item_count
