"""A probe runs real workers over a sample: what it measures is what they took, and it commits nothing."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.stage import PoolConfig
from cluster.nodes import NodeGroup
from cluster.packing import NodeType
from pipeline.cluster_view import connected_nodes
from pipeline.graph import GraphConfig
from pipeline.in_flight import InFlight
from pipeline.planning import Planned, PlanRequest, plan_run
from pipeline.probe import Probe, ProbeResult
from pipeline.probe_worker import gpu_memory_bytes
from pipeline.reader import ShardReader
from pipeline.run_plan import read_plan
from pipeline.sample import sample_lines
from pipeline.spec import Specs
from pipeline.unfinished import count_to_do, unfinished_plan
from records.errors import Failure, FatalError, UserError
from records.items import Row
from records.outcomes import STAGES, Embedding, View
from records.schemas import VectorDtype
from storage.catalog import Catalog
from storage.stores import Store, StoreConfig
from tests.pipeline.light_stages import LightEmbed, light_catalog, light_specs
from tests.pipeline.runs import BASE, run_light

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("light_ray")]

GRAPH = GraphConfig(block_rows=4, text_block_rows=8)
MODALITIES = {"caption": "video", "transcribe": "audio"}


class LongVectors(LightEmbed):
    """Vectors of 1,024 numbers."""

    def __call__(self, rows: Sequence[Row]) -> list[Embedding | Failure]:
        view = View(document="", vector=np.random.default_rng(0).standard_normal(1024).astype(np.float32), chunks=1)
        return [Embedding(video=view, audio=view, metadata=view, all=view) for _ in rows]


class TakesItsTime(LongVectors):
    """Loads for 4 s of a core."""

    def __init__(self) -> None:
        until = time.process_time() + 4.0
        while time.process_time() < until:
            pass


def refuses_to_load() -> None:
    raise RuntimeError("no such weights")


def probed(
    output: Path, specs: Specs, sample: int = 16, *, graph: GraphConfig = GRAPH, dtype: VectorDtype = "float32"
) -> tuple[Catalog, ProbeResult]:
    store = Store.open(str(output))
    catalog = Catalog.open(store)
    assert catalog is not None
    plan = unfinished_plan(store, catalog, specs, list(specs))
    reader = ShardReader(
        output_uri=str(output), catalog_revision=catalog.revision, specs=specs, gate=None, store=StoreConfig()
    )
    lines = sample_lines(plan, catalog.live_counts(), reader.lines, sample, 0)
    needed = count_to_do(plan, catalog.live_counts(), specs, reader.lines).rows
    probe = Probe({name: specs[name] for name in needed}, MODALITIES, graph, dtype)
    return catalog, probe.run(lines)


def test_it_measures_what_the_workers_took_and_commits_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), [f"v{number}" for number in range(40)], shard_size=10, titles={"v1": "A title"})
    specs = dict(light_specs(tmp_path / "log", seconds=0.02))
    specs["caption"] = replace(specs["caption"], pool=PoolConfig(num_cpus=0.25, calls=2))
    _, result = probed(output, specs)
    assert result.items == 16
    assert list(result.stages) == [stage for stage in STAGES if stage in specs]
    for name, stage in result.stages.items():
        assert (stage.rows, stage.failed, sum(wave.rows for wave in stage.waves)) == (16, 0, 16), name
        assert stage.output_bytes_per_item > 0
        assert stage.memory_bytes > 10 * 2**20
        assert 0 < stage.start_cpu_seconds < 60
        assert stage.gpu_memory_bytes is None
    spent = {name: sum(wave.seconds for wave in stage.waves) / 16 for name, stage in result.stages.items()}
    assert spent["decode"] >= 0.02
    assert 0.01 <= spent["caption"] < 0.02 * 2  # two calls at a time, each 0.02 s a row
    assert spent["transcribe"] >= 0.02 / 4  # 0.02 s a call of four rows
    assert result.stages["decode"].block_bytes_per_item > 2 * 28 * 28 * 3  # its frames
    assert not (output / "stages").exists()
    assert not (output / "runs").exists()


def test_the_cores_that_loading_takes_are_measured(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), ["a", "b"], shard_size=10)
    specs = {"embed": replace(light_specs(tmp_path / "log")["embed"], reads=(), build=LongVectors)}
    slow = {"embed": replace(specs["embed"], build=TakesItsTime)}
    light, heavy = (probed(output, one)[1].stages["embed"] for one in (specs, slow))
    assert heavy.start_cpu_seconds - light.start_cpu_seconds > 2.0
    assert sum(wave.cpu_seconds for wave in heavy.waves) < 1.0


def test_files_are_as_large_as_the_type_of_the_vectors_makes_them(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), ["a", "b"], shard_size=10)
    specs = {"embed": replace(light_specs(tmp_path / "log")["embed"], reads=(), build=LongVectors)}
    wide, narrow = (probed(output, specs, dtype=dtype)[1].stages["embed"] for dtype in ("float32", "float16"))
    assert narrow.output_bytes_per_item < 0.75 * wide.output_bytes_per_item


def test_failed_items_are_counted_and_cost_the_later_stages_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), ["a", "missing-1", "b", "missing-2"], shard_size=10)
    _, result = probed(output, light_specs(tmp_path / "log"))
    assert {name: stage.failed for name, stage in result.stages.items()} == {
        "decode": 2,
        "caption": 2,
        "transcribe": 2,
        "embed": 0,
    }


def test_only_what_is_left_is_probed_from_the_texts_that_are_there(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), [f"v{number}" for number in range(12)], shard_size=6)
    run_light(output, light_specs(tmp_path / "log"))
    _, result = probed(output, light_specs(tmp_path / "log", encoder="second"))
    assert list(result.stages) == ["embed"]
    assert result.stages["embed"].rows == 12


def test_a_model_that_cannot_load_is_one_clear_error(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), ["a"], shard_size=10)
    specs = dict(light_specs(tmp_path / "log"))
    specs["caption"] = replace(specs["caption"], build=refuses_to_load)
    with pytest.raises(FatalError, match="caption failed on the sample: RuntimeError: no such weights"):
        probed(output, specs)


def test_an_item_that_kills_its_worker_is_one_clear_error(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), ["a", "kills-caption"], shard_size=10)
    with pytest.raises(FatalError, match="the probe's worker of caption died"):
        probed(output, light_specs(tmp_path / "log"))


def test_a_worker_that_no_node_holds_is_waited_for_only_so_long(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), ["a"], shard_size=10)
    specs = dict(light_specs(tmp_path / "log"))
    specs["decode"] = replace(specs["decode"], pool=PoolConfig(num_cpus=1000))
    with pytest.raises(FatalError, match="worker of decode did not start within 1 s: no node came"):
        probed(output, specs, graph=replace(GRAPH, start_timeout_seconds=1.0))


def test_a_plan_is_made_written_read_and_run(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), [f"v{number}" for number in range(40)], shard_size=10)
    specs = light_specs(tmp_path / "log", seconds=0.02)
    catalog, result = probed(output, specs)
    planned = planned_on({NodeType(name="n", cpus=8, memory_bytes=2**34): 1}, specs, catalog, result, output)
    path = tmp_path / "plan.yaml"
    path.write_text(planned.plan.as_yaml())
    plan = read_plan(str(path))
    assert plan == planned.plan
    plan.check(specs)
    with pytest.raises(UserError, match="made for another caption"):
        plan.check(light_specs(tmp_path / "log", prompt="another"))
    report = run_light(output, specs, config=replace(BASE), plan=plan)
    assert set(report.ledger) == set(specs)
    for line in report.ledger.values():
        shares = (
            line.busy_share, line.starved_share, line.blocked_share, line.gate_share, line.loading_share,
            line.other_share,
        )  # fmt: skip
        assert sum(shares) == pytest.approx(1.0)
        assert min(shares) >= 0
    assert report.ledger["decode"].busy_seconds_per_item >= 0.02
    assert report.ledger["decode"].waiting_share > 0
    markdown = report.as_markdown()
    assert f"## Plan {plan.plan_id} against actual" in markdown
    assert "| decode | 1 |" in markdown
    assert plan.plan_id in report.as_json()


def planned_on(
    nodes: dict[NodeType, int], specs: Specs, catalog: Catalog, result: ProbeResult, output: Path
) -> Planned:
    pending = unfinished_plan(Store.open(str(output)), catalog, specs, list(specs))
    rows = dict.fromkeys(specs, catalog.item_count)
    request = PlanRequest(plan_id="p", recipe="tiny", rows=rows, nodes=nodes)
    bounds = InFlight.of(pending, catalog.live_counts(), GRAPH, BASE.gate)
    return plan_run(request, specs, bounds, result, {})


def test_the_connected_cluster_is_seen_with_its_real_cores() -> None:
    import os

    nodes, cores = connected_nodes([])
    ((node, count),) = nodes.items()
    assert (node.cpus, node.gpus, count, cores) == (4.0, 1, 1, float(os.cpu_count() or 1))
    assert node.memory_bytes > 2**30
    grown, _ = connected_nodes([NodeGroup(name="gpus", max_nodes=3, cpus=8, gpus=1, accelerator_type="L4")])
    (group,) = (type_ for type_ in grown if type_.name == "gpus")
    assert (group.gpus, group.accelerator, grown[group], len(grown)) == (1, "L4", 3, 2)
    assert group.memory_bytes > 2**40  # nobody has said it


def test_without_a_gpu_there_is_no_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for devices in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        assert gpu_memory_bytes() is None
