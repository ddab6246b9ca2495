"""What comes late: failures in the last rows of a run, and a journal while a shard is written."""

import threading
from dataclasses import replace
from typing import Any

from pipeline.breaker import Breaker, BreakerConfig
from pipeline.plan import Plan
from records.errors import FailureKind
from records.flow import FlowRow
from tests.pipeline.light import SPECS, MemoryJournal, MemoryTables, failure, outcome, plan_for
from tests.pipeline.test_committer import committer_for, lines_of


def good_lines(plan: Plan, shard_id: str) -> list[FlowRow]:
    """Lines without a failure."""
    good = {stage: outcome(stage, "x") for stage in SPECS}
    return [line if line.is_header else replace(line, outcomes=good) for line in lines_of(plan, shard_id)]


def test_credentials_that_expire_in_the_last_rows_commit_nothing_false() -> None:
    tables, journal = MemoryTables(), MemoryJournal()
    plan = plan_for(tables, 12)
    breaker = Breaker(BreakerConfig(max_error_share=0.2, window_rows=100, min_rows=10))
    committer = committer_for(plan, tables, journal, breaker)
    last = f"{11:08d}"
    for shard in range(11):
        committer.add(good_lines(plan, f"{shard:08d}"))
    refused = {stage: failure("decode", FailureKind.FORBIDDEN) for stage in SPECS}
    committer.add([line if line.is_header else replace(line, outcomes=refused) for line in lines_of(plan, last)])
    before = breaker.tripped
    assert before is None, "a whole window would be needed"
    committer.finish()
    assert breaker.tripped == "forbidden"
    assert {shard_id for _, _, shard_id, _ in tables.files} == {f"{shard:08d}" for shard in range(11)}


def test_a_shard_of_files_that_the_catalog_knows_to_be_empty_is_committed_at_once() -> None:
    tables = MemoryTables()
    plan = plan_for(tables, 30)
    breaker = Breaker(BreakerConfig(max_error_share=0.2, window_rows=20, min_rows=5))
    committer = committer_for(plan, tables, MemoryJournal(), breaker)
    empty = {stage: failure("decode", FailureKind.NO_BYTES) for stage in SPECS}
    for shard in range(30):
        lines = lines_of(plan, f"{shard:08d}")
        committer.add([line if line.is_header else replace(line, outcomes=empty) for line in lines])
        assert committer.committed_shards == shard + 1
    committer.finish()
    assert breaker.tripped is None
    assert committer.failed_rows == committer.rows == committer.errors["no_bytes"] > 30


def test_a_journal_does_not_wait_for_a_commit_that_hangs() -> None:
    """A signal has two seconds to a journal, however long a store takes to write a shard."""

    class Hanging(MemoryTables):
        begun, over = threading.Event(), threading.Event()

        def commit(self, *arguments: Any) -> bool:  # noqa: ANN401 - as the method takes them
            self.begun.set()
            assert self.over.wait(30)
            return super().commit(*arguments)

    tables, journal = Hanging(), MemoryJournal()
    plan = plan_for(tables, 2)
    committer = committer_for(plan, tables, journal)
    first, second = (good_lines(plan, f"{shard:08d}") for shard in range(2))
    committer.add(second[1:-1])
    commits = threading.Thread(target=committer.add, args=(first,))
    commits.start()
    assert tables.begun.wait(30)
    journalled: list[int] = []
    journals = threading.Thread(target=lambda: journalled.append(committer.flush_journal()))
    journals.start()
    journals.join(timeout=10)
    assert journalled, "it waits for the commit"
    assert {row.shard_id for row in journal.rows} == {f"{shard:08d}" for shard in range(2)}
    tables.over.set()
    commits.join(timeout=30)
    assert committer.committed == {"00000000"}
    assert {row.shard_id for row in journal.rows} == {"00000001"}
    committer.add(second)
    assert committer.committed == {"00000000", "00000001"}
    assert journal.rows == []
    assert {len(rows) for rows in tables.files.values()} == {2, 3}
