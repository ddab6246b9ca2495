"""What the driver keeps of an open shard: every row once, and one bit for each that a journal holds."""

import gc
import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.open_shard import positions_mask
from pipeline.plan import Plan
from records.failures import kinds_of
from records.flow import FlowRow, header
from records.outcomes import Outcome
from records.schemas import JournalRow
from tests.pipeline.light import SPECS, MemoryJournal, MemoryTables, failure, item, outcome, plan_for
from tests.pipeline.test_committer import committer_for, lines_of

ROWS = 512


class Sunk(MemoryJournal):
    """A journal that keeps nothing in this process."""

    def append(self, rows: Sequence[JournalRow]) -> int:
        return 0


def lines(shard_id: str, rows: Iterable[int]) -> list[FlowRow]:
    """Every eighth one has failed."""
    made: dict[str, Outcome] = {stage: outcome(stage, "x") for stage in SPECS}
    pending = tuple(SPECS)
    return [
        FlowRow(
            shard_id="".join(shard_id),  # each line has its own, as it has when it comes out of Arrow
            position=number,
            issued_rows=ROWS,
            item=item(f"clips/{shard_id}/{number:06d}"),
            pending=pending,
            outcomes={**made, "caption": failure("caption")} if number % 8 == 0 else made,
        )
        for number in rows
    ]


@given(st.sets(st.integers(0, 600)))
def test_positions_survive_as_bits(positions: set[int]) -> None:
    mask = positions_mask(positions)
    assert {position for position in range(mask.bit_length()) if mask >> position & 1} == positions


def test_a_shard_that_a_straggler_keeps_open_costs_little_memory() -> None:
    shards = 60
    committer = committer_for(plan_for(MemoryTables(), shards), MemoryTables(), Sunk())
    committer.add(lines("00000000", range(ROWS - 1)))
    committer.flush_journal()
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for shard in range(1, shards):
            committer.add([header(f"{shard:08d}", ROWS), *lines(f"{shard:08d}", range(ROWS - 1))])
            committer.flush_journal()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert committer.rows == shards * (ROWS - 1)
    assert (after - before) / (shards - 1) < 4096
    assert committer.arrived("00000007") == positions_mask(range(ROWS - 1))


def test_a_failed_row_leaves_memory_and_is_committed_from_the_journal() -> None:
    tables, journal = MemoryTables(), MemoryJournal()
    plan: Plan = plan_for(tables, 1)
    committer = committer_for(plan, tables, journal)
    top, good, bad = lines_of(plan, "00000000")
    committer.add([top, bad])
    assert committer.flush_journal() == 0, "nothing that a resume takes over"
    assert [bool(kinds_of(row.outcomes)) for row in journal.rows] == [True]
    committer.add([replace(bad, outcomes=good.outcomes)])
    committer.add([good])
    committer.finish()
    assert committer.failed_rows == 1
    assert [kinds_of({"": row.outcome}) for row in tables.newest("caption", "00000000")] == [set(), {"corrupt"}]
