"""How many workers can have work at once: what a gate of that size lets out, counted block by block."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.stage import PoolConfig
from cluster.nodes import Cluster, NodeGroup
from pipeline.gate import GateConfig
from pipeline.graph import GraphConfig
from pipeline.in_flight import InFlight
from pipeline.phases import place_stages
from tests.pipeline.light import SPECS, MemoryTables, plan_for

EMBED = replace(SPECS["embed"], pool=PoolConfig(num_gpus=0.05, max_actors=64, batch_rows=64))
CAPTION = replace(SPECS["caption"], pool=PoolConfig(num_gpus=0.5, max_actors=64, batch_rows=8, calls=8))


def bounds(shards: int, shard_rows: int = 512, *, gate: int = 8192, **graph: Any) -> InFlight:  # noqa: ANN401 - numbers
    return InFlight(
        graph=GraphConfig(**graph), gate=GateConfig(max_rows_out=gate), shards=shards, shard_rows=shard_rows
    )


@pytest.mark.parametrize(
    ("of", "rows", "workers"),
    [
        (bounds(40), 20_000, 16),  # of 40 blocks, 16 are out at a time
        (bounds(3), 1_400, 3),
        (bounds(40, gate=2**20), 20_000, 40),
        (bounds(40, text_block_rows=128), 20_000, 64),
        (bounds(2, 20_000), 40_000, 20),  # one shard at a time, larger than the gate, in blocks of 1,024
        (bounds(200_000), 10**8, 2 * 4),  # seven shards a task, in blocks of 1,024
        (bounds(1, 5), 5, 1),
    ],
)
def test_a_run_over_texts_has_the_blocks_that_the_gate_lets_out(of: InFlight, rows: int, workers: int) -> None:
    assert of.workers_of_texts(EMBED.pool, rows) == workers
    assert of.workers_of_texts(replace(EMBED.pool, calls=2), rows) == max(1, workers // 2)


@given(
    shards=st.integers(1, 60),
    shard_rows=st.integers(1, 60),
    gate=st.integers(1, 500),
    block_rows=st.integers(1, 60),
    max_reads=st.integers(1, 60),
)
def test_workers_over_texts_equal_the_blocks_of_a_gate_that_is_played_through(
    shards: int, shard_rows: int, gate: int, block_rows: int, max_reads: int
) -> None:
    of = bounds(shards, shard_rows, gate=gate, text_block_rows=block_rows, max_reads=max_reads)
    size = math.ceil(shards / max_reads)
    tasks = [min(size, shards - start) * shard_rows for start in range(0, shards, size)]
    out: list[int] = []
    for rows in tasks:
        if out and sum(out) + rows > gate:
            break
        out.append(rows)
    blocks = sum(math.ceil(rows / block_rows) for rows in out)
    found = of.workers_of_texts(PoolConfig(), shards * shard_rows)
    if len(set(tasks)) == 1:
        assert blocks == found
    else:  # the last task reads fewer shards
        assert abs(blocks - found) <= math.ceil(tasks[0] / block_rows)


def test_media_stages_have_the_calls_that_the_gate_lets_out() -> None:
    assert bounds(2_000).workers(CAPTION, 10**6) == 8192 // 64
    assert bounds(2_000).workers(CAPTION, 100) == math.ceil(100 / 8)
    decode = replace(SPECS["decode"], pool=PoolConfig(batch_rows=1000))
    assert bounds(2_000, block_rows=4).workers(decode, 10**6) == 8192 // 4  # it gets blocks


def test_bounds_of_a_plan_are_those_of_its_largest_shard_that_has_work() -> None:
    done = MemoryTables()
    done.files = {(stage, spec.fingerprint, f"{1:08d}", 0): [] for stage, spec in SPECS.items()}
    found = InFlight.of(plan_for(done, 3), np.array([7, 512, 30]), GraphConfig(), GateConfig())
    assert (found.shards, found.shard_rows) == (2, 30)


def test_no_pool_begins_with_more_workers_than_have_work() -> None:
    specs = {**SPECS, "embed": EMBED, "caption": CAPTION}
    cluster = Cluster(kinds=(NodeGroup(name="gpus", max_nodes=64, cpus=96, gpus=8).kind(),))
    alone = place_stages(specs, ["embed"], cluster, 20_000, bounds(40))
    assert alone["embed"].initial_actors == 16
    assert place_stages(specs, ["embed"], cluster, 20_000, bounds(40, gate=2**20))["embed"].initial_actors == 40
    placed = place_stages(specs, ["caption", "embed"], cluster, 20_000, bounds(40, gate=2048))
    assert (placed["caption"].initial_actors, placed["embed"].initial_actors) == (32, 32)
