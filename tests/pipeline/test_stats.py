"""What a run counts: how many rows a phase will bring, from what is known of its shards so far."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stats import RowForecast, RunStats, StageStats
from records.flow import FlowRow
from tests.pipeline.light import failure, item, outcome


def line(shard: int, issued_rows: int) -> FlowRow:
    return FlowRow(shard_id=f"{shard:08d}", position=0, issued_rows=issued_rows, item=item("a"))


def forecast(live: list[int], order: list[int] | None = None, journalled: dict[str, int] | None = None) -> RowForecast:
    return RowForecast(np.array(live), np.array(range(len(live)) if order is None else order), journalled or {})


def test_before_any_shard_is_known_all_live_items_of_the_phases_shards_may_run() -> None:
    assert forecast([512, 100, 37, 512], order=[3, 2]).expected_rows(set()) == 549


def test_a_retry_of_one_row_a_shard_is_known_from_the_first_that_is_back() -> None:
    rows = forecast([512] * 1000)
    rows.row(line(0, issued_rows=1))
    assert rows.expected_rows(set()) == 1000


def test_shards_count_by_their_size() -> None:
    rows = forecast([100, 300])
    rows.row(line(0, issued_rows=50))
    assert rows.expected_rows(set()) == 200


def test_items_from_a_journal_are_not_expected() -> None:
    rows = forecast([512, 512, 512], journalled={"00000000": 500, "00000001": 512})
    assert rows.expected_rows(set()) == 524
    rows.row(line(0, issued_rows=12))
    assert rows.expected_rows({"00000001"}) == 524


def test_a_shard_committed_without_a_row_has_none() -> None:
    rows = forecast([10, 10, 10])
    assert rows.expected_rows({"00000002"}) == 30
    rows.row(line(0, issued_rows=4))
    assert rows.expected_rows({"00000002"}) == 6
    assert rows.expected_rows({"00000000", "00000002"}) == 6
    assert forecast([10]).expected_rows({"00000000"}) == 0


def test_a_later_pass_issues_anew_what_was_lost_and_adds_none() -> None:
    rows = forecast([10, 10])
    for _ in range(7):
        rows.row(line(0, issued_rows=10))
    rows.row(line(0, issued_rows=3))
    assert rows.expected_rows(set()) == 20


@given(data=st.data())
def test_it_is_never_below_what_came_and_exact_once_every_shard_is_known(data: st.DataObject) -> None:
    live = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=6))
    kept = [data.draw(st.integers(0, items)) for items in live]
    issued = [data.draw(st.integers(0, items - of)) for items, of in zip(live, kept, strict=True)]
    rows = forecast(live, journalled={f"{shard:08d}": items for shard, items in enumerate(kept)})
    arrivals = data.draw(st.permutations([shard for shard, count in enumerate(issued) for _ in range(count)]))
    committed = {f"{shard:08d}" for shard, count in enumerate(issued) if not count}
    for came, shard in enumerate(arrivals):
        assert rows.expected_rows(committed) >= came
        rows.row(line(shard, issued[shard]))
        if list(arrivals[: came + 1]).count(shard) == issued[shard]:
            committed.add(f"{shard:08d}")
    assert rows.expected_rows(committed) == sum(issued)
    assert rows.expected_rows(set(map("{:08d}".format, range(len(live))))) == sum(issued)


def test_the_counters_tell_the_forecast_of_their_rows() -> None:
    stats = RunStats(["caption"])
    stats.forecast = forecast([8, 8])
    outcomes = {"caption": outcome("caption", "a")}
    for position in range(2):
        stats.add_row(
            FlowRow(
                shard_id="00000001",
                position=position,
                issued_rows=2,
                item=item("a"),
                pending=("caption",),
                outcomes=outcomes if position else {"caption": failure("caption")},
            )
        )
    assert (stats.stages["caption"].results, stats.stages["caption"].errors) == (1, {"corrupt": 1})
    assert stats.forecast.expected_rows(set()) == 4


def test_the_pace_while_busy_is_that_of_one_worker() -> None:
    assert StageStats(results=30, failed=10, busy_seconds=16.0).rows_per_busy_second == pytest.approx(2.5)
    assert StageStats(failed=3).rows_per_busy_second == 0.0
