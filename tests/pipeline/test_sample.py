"""Samples are spread over the shards, hold no item twice, and are the same again for a seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan import ShardTask
from pipeline.sample import sample_lines, sample_positions
from records.flow import FlowRow
from tests.pipeline.light import MemoryTables, item, plan_for

LIVE = st.lists(st.integers(0, 40), min_size=1, max_size=30)


@given(live=LIVE, count=st.integers(1, 200), seed=st.integers(0, 5))
def test_a_sample_is_spread_and_holds_none_twice(live: list[int], count: int, seed: int) -> None:
    found = sample_positions(np.asarray(live, dtype=np.int64), count, seed)
    assert len(found) == len(set(found)) == min(count, sum(live))
    assert all(0 <= place < live[shard] for shard, place in found)
    assert found == sample_positions(np.asarray(live, dtype=np.int64), count, seed)
    before = np.cumsum([0, *live])
    ranks = [before[shard] + place for shard, place in found]
    for number, rank in enumerate(ranks):  # one of each stretch
        assert number * sum(live) // len(ranks) <= rank < (number + 1) * sum(live) // len(ranks)


def test_another_seed_draws_another_sample() -> None:
    live = np.full(50, 512, dtype=np.int64)
    draws = {tuple(sample_positions(live, 64, seed)) for seed in range(5)}
    assert len(draws) == 5
    assert {len({shard for shard, _ in draw}) for draw in draws} <= set(range(40, 51))


def lines_of(task: ShardTask, count: int) -> list[FlowRow]:
    return [
        FlowRow(
            shard_id=task.shard_id,
            position=n,
            issued_rows=count,
            item=item(f"{task.shard_id}-{n}"),
            pending=("decode",),
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("there", [10, 3, 0])
def test_lines_come_of_the_shards_that_have_work(there: int) -> None:
    """Also where a shard has fewer pending lines than it was counted with."""
    plan = plan_for(MemoryTables(), 6)
    live = np.full(6, 10, dtype=np.int64)
    lines = sample_lines(plan, live, lambda task: lines_of(task, there), 12, 0)
    names = [line.item.video_id for line in lines]
    assert len(names) == len(set(names))
    assert len(names) <= 12
    assert len({line.shard_id for line in lines}) == (6 if there else 0)
