"""A whole run over an S3 that fails a tenth of all requests in six ways: no item is lost and no table differs."""

import json
from pathlib import Path

import pytest

from storage.stores import Store
from tests.again import PROPERTY, RecordProperty
from tests.clips import clip_bytes
from tests.faulty_proxy import Fault, FaultyProxy
from tests.pipeline.drivers import Environment, run_light_job
from tests.pipeline.light_stages import STAGES, light_specs
from tests.pipeline.runs import committed, same_tables
from tests.s3 import S3Server

pytestmark = pytest.mark.engine

SEED = 20
STALL_SECONDS = 3.0


def clips_in_bucket(server: S3Server, items: int) -> str:
    """A new bucket with real clips of a few kinds."""
    kinds = [
        clip_bytes(seconds=0.5),
        clip_bytes(seconds=0.6, width=96, height=128, fps=8),
        clip_bytes(seconds=0.5, audio=False),
    ]
    bucket = server.bucket()
    for number in range(items):
        server.put_unasked(bucket, f"source/{number % 7}/clip-{number:03d}.mp4", kinds[number % len(kinds)])
    return f"{bucket}/source"


@pytest.mark.parametrize(
    ("items", "shard_size", "share", "stages"),
    [(60, 12, 0.25, "decode,caption"), pytest.param(500, 50, 0.1, ",".join(STAGES), marks=pytest.mark.chaos)],
)
def test_every_item_ends_as_a_result_and_the_tables_are_those_of_an_undisturbed_run(
    s3_server: S3Server,
    s3_proxy: FaultyProxy,
    drivers_ray: Environment,
    tmp_path: Path,
    items: int,
    shard_size: int,
    share: float,
    stages: str,
    record_property: RecordProperty,
) -> None:
    source = clips_in_bucket(s3_server, items)
    counts: dict[str, int] = {}
    seconds: dict[str, float] = {}
    outputs = {name: f"{s3_server.bucket()}/out" for name in ("undisturbed", "disturbed")}
    for name in outputs:
        with s3_proxy.breaking(share if name == "disturbed" else 0.0, SEED):
            report = run_light_job(
                outputs[name],
                tmp_path / name,
                drivers_ray,
                source=source,
                shard_size=shard_size,
                stall_seconds=STALL_SECONDS,
                stages=stages,
            )
            counts[name], seconds[name], faults = s3_proxy.requests, report["seconds"], dict(s3_proxy.faults)
        assert (report["items_run"], report["items_with_errors"], report["stopped"]) == (items, 0, None)
        assert report["shards_committed"] == report["shards_pending"] == items // shard_size
    more = counts["disturbed"] / counts["undisturbed"] - 1
    times = f"{seconds['disturbed']:.0f} instead of {seconds['undisturbed']:.0f} s"
    record_property(
        PROPERTY, f"requests {counts['disturbed']}, {more:.1%} more, {sum(faults.values())} broken; {times}"
    )
    assert set(faults) == set(Fault), "every kind of fault came up"
    assert 0.5 * share < sum(faults.values()) / counts["disturbed"] < 2 * share
    specs = light_specs(tmp_path, stages=stages.split(","))
    tables = committed(outputs["disturbed"], specs)
    assert {stage: len(lines) for stage, lines in tables.items()} == dict.fromkeys(specs, items)
    same_tables(tables, committed(outputs["undisturbed"], specs))
    assert json.loads(Store.open(outputs["disturbed"]).read_bytes("leases/lease.json"))["released"]
