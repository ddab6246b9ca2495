"""Whatever the order, the repeats, the journal's moments and the kills: the tables come out as if undisturbed."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.breaker import Breaker, BreakerConfig
from pipeline.committer import Committer
from pipeline.plan import Plan
from records.errors import BusyError, Failure, FailureKind, FatalError
from records.flow import FlowRow, header
from records.items import CatalogItem
from records.outcomes import Caption, Outcome
from records.schemas import StageRow
from tests.pipeline.light import SPECS, MemoryJournal, MemoryTables, failure, item, outcome, plan_for
from tests.records.as_dict import to_dict

CALM = BreakerConfig(max_error_share=1.0, window_rows=10, min_rows=1)


def items_of(shard_id: str) -> list[CatalogItem]:
    return [item(f"{shard_id[-1]}-{number}") for number in range(int(shard_id) + 2)]


def committer_for(
    plan: Plan,
    tables: MemoryTables,
    journal: MemoryJournal,
    breaker: Breaker | None = None,
    items: Callable[[str], list[CatalogItem]] = items_of,
) -> Committer:
    return Committer(
        specs=SPECS,
        task_of=lambda shard_id: plan.task(int(shard_id)),
        items_of=items,
        tables=tables,
        journal=journal,
        breaker=breaker or Breaker(CALM),
        footer={"run_id": "r"},
    )


def made(stage: str, video_id: str) -> Outcome | Failure:
    """Item `x-1` of every shard fails in caption."""
    return failure("caption") if stage == "caption" and video_id.endswith("-1") else outcome(stage, video_id)


def lines_of(plan: Plan, shard_id: str, *, skip: int = 0) -> list[FlowRow]:
    pending = tuple(plan.task(int(shard_id)).targets)
    items = [(position, one) for position, one in enumerate(items_of(shard_id)) if not skip >> position & 1]
    lines = [
        FlowRow(
            shard_id=shard_id,
            position=position,
            issued_rows=len(items),
            item=one,
            pending=pending,
            outcomes={stage: made(stage, one.video_id) for stage in pending},
        )
        for position, one in items
    ]
    return [header(shard_id, len(items)), *lines]


def plain(rows: Sequence[StageRow]) -> list[tuple[str, int, str]]:
    return [(row.video_id, row.generation, repr(to_dict(row.outcome))) for row in rows]


def everything(tables: MemoryTables) -> dict[tuple[str, str, str, int], list[tuple[str, int, str]]]:
    return {key: plain(rows) for key, rows in tables.files.items()}


def undisturbed(shards: int) -> dict[tuple[str, str, str, int], list[tuple[str, int, str]]]:
    tables = MemoryTables()
    for shard in range(shards):
        shard_id = f"{shard:08d}"
        for stage in SPECS:
            rows = [
                StageRow(video_id=one.video_id, version=1, generation=0, outcome=made(stage, one.video_id))
                for one in items_of(shard_id)
            ]
            tables.files[stage, SPECS[stage].fingerprint, shard_id, 0] = rows
    return everything(tables)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_order_repeats_journals_and_kills_give_the_same_tables(data: st.DataObject) -> None:
    shards = data.draw(st.integers(1, 4))
    tables, journal = MemoryTables(), MemoryJournal()
    for _ in range(6):  # runs, all but the last killed somewhere
        plan = plan_for(tables, shards)
        committer = committer_for(plan, tables, journal)
        for row in list(journal.rows):
            if row.shard_id in {task.shard_id for task in plan.tasks()}:
                committer.adopt(row)
        lines = [
            line
            for task in plan.tasks()
            for line in lines_of(plan, task.shard_id, skip=committer.arrived(task.shard_id))
        ]
        repeats = data.draw(st.lists(st.sampled_from(lines), max_size=4)) if lines else []
        arrivals = data.draw(st.permutations([*lines, *repeats]))
        killed_after = data.draw(st.integers(0, len(arrivals)))
        for line in arrivals[:killed_after]:
            committer.add([line])
            if data.draw(st.booleans()):
                committer.flush_journal()
        if killed_after == len(arrivals):
            committer.finish()
    plan = plan_for(tables, shards)
    committer = committer_for(plan, tables, MemoryJournal())
    for task in plan.tasks():
        committer.add(lines_of(plan, task.shard_id))
    committer.finish()
    assert everything(tables) == undisturbed(shards)


def test_the_first_arrival_wins_whole() -> None:
    tables = MemoryTables()
    plan = plan_for(tables, 1)
    committer = committer_for(plan, tables, MemoryJournal())
    _, first, second = lines_of(plan, "00000000")
    again = replace(first, outcomes={stage: Caption(text="another pass") for stage in first.pending})
    committer.add([first, again, second])
    committer.finish()
    assert everything(tables) == undisturbed(1)
    assert committer.rows == 2


def test_a_shard_whose_items_are_all_gone_is_committed_on_its_header_alone() -> None:
    tables = MemoryTables()
    plan = plan_for(tables, 1)
    committer = committer_for(plan, tables, MemoryJournal(), items=lambda shard_id: [])
    committer.add([header("00000000", 0)])
    assert {key[0] for key in tables.files} == set(SPECS)


def test_a_shard_is_never_committed_with_fewer_lines_than_items() -> None:
    tables = MemoryTables()
    plan = plan_for(tables, 1)
    committer = committer_for(plan, tables, MemoryJournal())
    with pytest.raises(FatalError, match="2 items but 0 results and errors"):
        committer.add([header("00000000", 0)])
    assert not tables.files


def test_a_retry_copies_the_other_lines_and_counts_the_attempts() -> None:
    tables, journal = MemoryTables(), MemoryJournal()
    plan = plan_for(tables, 1)
    committer = committer_for(plan, tables, journal)
    committer.add(lines_of(plan, "00000000"))
    committer.finish()
    before = tables.newest("caption", "00000000")
    retry = plan_for(tables, 1, retry={"caption": {0: frozenset({"corrupt"})}})
    again = committer_for(retry, tables, journal)
    _, _, broken = lines_of(retry, "00000000")
    again.add([replace(broken, issued_rows=1)])
    again.finish()
    after = tables.newest("caption", "00000000")
    assert after[0] == before[0]
    assert after[0].generation == 0
    assert after[1].generation == 1
    assert isinstance(after[1].outcome, Failure)
    assert after[1].outcome.attempts == 2


def test_upstream_files_are_written_first_so_that_a_kill_between_them_is_only_a_pending_stage() -> None:
    class KilledAfterDecode(MemoryTables):
        def commit(self, stage, *rest) -> bool:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002 - passed on
            if stage != "decode":
                raise KeyboardInterrupt
            return super().commit(stage, *rest)

    tables = KilledAfterDecode()
    plan = plan_for(tables, 1)
    committer = committer_for(plan, tables, MemoryJournal())
    committer.add(lines_of(plan, "00000000"))
    with pytest.raises(KeyboardInterrupt):
        committer.finish()
    survivors = MemoryTables(dict(tables.files))
    (task,) = plan_for(survivors, 1).tasks()
    assert task.targets == {"caption": 0, "embed": 0}


def test_a_tripped_breaker_commits_nothing_false_and_keeps_the_good_rows() -> None:
    tables, journal = MemoryTables(), MemoryJournal()
    plan = plan_for(tables, 1)
    breaker = Breaker(BreakerConfig(max_error_share=0.1, window_rows=20, min_rows=5))
    committer = committer_for(plan, tables, journal, breaker)
    top, good, bad = lines_of(plan, "00000000")
    forbidden = failure("decode", FailureKind.FORBIDDEN)
    committer.add([top, good, replace(bad, outcomes=dict.fromkeys(bad.pending, forbidden))])
    assert breaker.tripped == "forbidden"
    committer.finish()
    committer.flush_journal()
    assert not tables.files
    assert [row.video_id for row in journal.rows if not row.failed] == [good.item.video_id]
    fresh = committer_for(plan_for(tables, 1), tables, MemoryJournal())
    assert [row.video_id for row in journal.rows if fresh.adopt(row)] == [good.item.video_id]


def test_a_failed_row_waits_until_further_rows_show_that_it_is_alone() -> None:
    tables = MemoryTables()
    plan = plan_for(tables, 4)
    breaker = Breaker(BreakerConfig(max_error_share=0.9, window_rows=6, min_rows=6))
    committer = committer_for(plan, tables, MemoryJournal(), breaker)
    committer.add(lines_of(plan, "00000000"))
    assert not tables.files
    committer.add(lines_of(plan, "00000003"))
    assert not tables.files
    committer.add(lines_of(plan, "00000002"))
    assert {key[2] for key in tables.files} == {"00000000"}
    committer.finish()
    assert {key[2] for key in tables.files} == {"00000000", "00000002", "00000003"}


def test_a_shard_that_another_run_committed_meanwhile_stops_this_one() -> None:
    tables = MemoryTables()
    plan = plan_for(tables, 1)
    committer = committer_for(plan, tables, MemoryJournal())
    tables.files["decode", "d1", "00000000", 0] = []
    committer.add(lines_of(plan, "00000000"))
    with pytest.raises(BusyError, match="another run committed decode"):
        committer.finish()


def test_what_is_journalled_under_another_fingerprint_is_not_taken_over() -> None:
    tables, journal = MemoryTables(), MemoryJournal()
    plan = plan_for(tables, 1)
    committer = committer_for(plan, tables, journal)
    committer.add(lines_of(plan, "00000000")[:2])
    committer.flush_journal()
    (row,) = journal.rows
    fresh = committer_for(plan_for(tables, 1), tables, MemoryJournal())
    assert not fresh.adopt(replace(row, fingerprints={**row.fingerprints, "caption": "another prompt"}))
    assert not fresh.adopt(replace(row, generations={**row.generations, "embed": 1}))
    assert fresh.adopt(row)
    assert not fresh.adopt(row)
