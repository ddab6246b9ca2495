"""What workers get to do at a time: rows as Ray Data really cuts and joins them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ray.data import Dataset

from actors.decode import Decoded
from actors.stage import PoolConfig
from pipeline.gate import GateConfig, gates
from pipeline.graph import Graph, GraphConfig
from pipeline.ray_blocks import blocks_of
from pipeline.spec import Specs
from pipeline.tasks import Tasks
from pipeline.unfinished import unfinished_plan
from records.errors import Failure
from records.items import Row
from records.outcomes import Embedding
from storage.stores import Store, StoreConfig
from tests.pipeline.light_stages import LightDecode, LightEmbed, light_catalog, light_specs

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("light_ray")]


def note(log: Path, rows: Sequence[Row]) -> None:
    with log.open("a") as file:
        file.write(f"{len(rows)}\n")


class NotedDecode(LightDecode):
    """Leaves the size of each call."""

    def __call__(
        self, rows: Sequence[Row], want_video: Sequence[bool], want_audio: Sequence[bool]
    ) -> list[Decoded | Failure]:
        note(self.log.with_name("decode"), rows)
        return super().__call__(rows, want_video, want_audio)


@dataclass
class NotedEmbed(LightEmbed):
    """Leaves the size of each call. Says of no item anything."""

    log: Path = Path()

    def __call__(self, rows: Sequence[Row]) -> list[Embedding | Failure]:
        note(self.log, rows)
        nothing = self._view(None)
        return [Embedding(video=nothing, audio=nothing, metadata=nothing, all=nothing) for _ in rows]


def calls(folder: Path, stage: str) -> list[int]:
    return [int(line) for line in (folder / stage).read_text().split()]


def run_graph(
    folder: Path, specs: Specs, items: int, *, one_by_one: bool = False, graph: GraphConfig | None = None
) -> tuple[Dataset, int]:
    """Runs everything; the dataset and the rows that came, each shard's header among them."""
    output = str(folder / "out")
    catalog = light_catalog(output, [f"v{number:03d}" for number in range(items)], shard_size=31)
    plan = unfinished_plan(Store.open(output), catalog, specs, list(specs))
    with gates(GateConfig()) as opened:
        built = Graph(
            specs=specs,
            modalities={name: spec.modality for name, spec in specs.items() if spec.modality},
            output_uri=output,
            catalog_revision=catalog.revision,
            gate=opened.open(),
            config=graph or GraphConfig(block_rows=4),
            store=StoreConfig(),
        ).build(Tasks(plan=plan, indices=plan.order), one_by_one=one_by_one)
        rows = sum(block.num_rows for block in blocks_of(built))
    return built, rows


def noted(folder: Path, *, batch_rows: int, media: bool = True) -> Specs:
    pool = PoolConfig(num_cpus=0.5, batch_rows=batch_rows)
    specs = {name: replace(spec, pool=pool) for name, spec in light_specs(folder / "log").items()}
    specs["decode"] = replace(specs["decode"], build=partial(NotedDecode, folder / "log"))
    specs["embed"] = replace(specs["embed"], build=partial(NotedEmbed, log=folder / "embed"))
    return specs if media else {"embed": replace(specs["embed"], reads=())}


def test_rows_are_joined_to_batches_before_a_stage_of_texts_without_gpus(tmp_path: Path) -> None:
    """Shards of 31 items and a header are eight blocks of four; what waits at the end goes."""
    _, rows = run_graph(tmp_path, noted(tmp_path, batch_rows=16), 31 * 3 + 5)
    assert rows == 31 * 3 + 5 + 4
    assert sum(calls(tmp_path, "embed")) == sum(calls(tmp_path, "decode")) == 31 * 3 + 5
    assert max(calls(tmp_path, "decode")) <= 4
    assert np.mean(calls(tmp_path, "embed")) > 10
    assert max(calls(tmp_path, "embed")) <= 16


def test_one_by_one_is_one_row_in_a_call_of_every_stage(tmp_path: Path) -> None:
    run_graph(tmp_path, noted(tmp_path, batch_rows=16), 9, one_by_one=True)
    assert calls(tmp_path, "decode") == calls(tmp_path, "embed") == [1] * 9


def test_the_tasks_that_read_cut_the_blocks(tmp_path: Path) -> None:
    """Ray Data names an operator that it has fused after both."""
    specs, graph = noted(tmp_path, batch_rows=16, media=False), GraphConfig(text_block_rows=8)
    built, rows = run_graph(tmp_path, specs, 62, graph=graph)
    assert rows == 64
    operators = [line.split()[2] for line in built.stats().splitlines() if line.startswith("Operator")]
    assert [name.split("[")[0].rstrip(":") for name in operators] == [
        "FromItems",
        "MapBatches(<lambda>)->StreamingRepartition",
        "MapBatches(embed)",
    ]
    # Two tasks read three blocks of eight and one of seven each, two a call; which two, the order of their ends says.
    assert sorted(calls(tmp_path, "embed")) in ([15, 15, 16, 16], [14, 16, 16, 16])
