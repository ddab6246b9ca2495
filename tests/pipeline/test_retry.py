"""Which shards run again: those of the range and of the catalog, and no other footer is read."""

from pathlib import Path

import pytest

from pipeline.retry import failed_shards
from records.errors import FailureKind
from records.schemas import StageRow
from storage.stage_tables import Footer, StageTables
from storage.stores import Store
from tests.pipeline.light import SPECS, failure, plan_for

SHARDS = 6
BOTH = [FailureKind.CORRUPT, FailureKind.TIMEOUT]
"""Kinds of failure by shard, in turn."""


class CountedTables(StageTables):
    """Remembers whose footers were read."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.asked: list[tuple[str, str]] = []

    def footer(
        self, stage: str, fingerprint: str, shard_id: str, generation: int, size_bytes: int | None = None
    ) -> Footer:
        self.asked.append((stage, shard_id))
        return super().footer(stage, fingerprint, shard_id, generation, size_bytes)


@pytest.fixture
def tables(tmp_path: Path) -> CountedTables:
    """Six shards of two stages, each with one item that failed."""
    tables = CountedTables(Store.open(str(tmp_path)))
    for stage in ("decode", "caption"):
        for number in range(SHARDS):
            row = StageRow(video_id="v", version=1, generation=0, outcome=failure("decode", BOTH[number % 2]))
            assert tables.commit(stage, SPECS[stage].fingerprint, f"{number:08d}", 0, [row], {})
    return tables


def test_a_range_reads_its_own_footers_alone(tables: CountedTables) -> None:
    found = failed_shards(tables, SPECS, ["decode", "caption"], frozenset(), SHARDS, range(2, 4))
    corrupt, timeout = frozenset({"corrupt"}), frozenset({"timeout"})
    assert found == {"decode": {2: corrupt, 3: timeout}, "caption": {2: corrupt, 3: timeout}}
    assert sorted(tables.asked) == [
        ("caption", "00000002"), ("caption", "00000003"), ("decode", "00000002"), ("decode", "00000003"),
    ]  # fmt: skip


def test_only_shards_with_a_failure_of_the_kinds_run_again(tables: CountedTables) -> None:
    found = failed_shards(tables, SPECS, ["decode"], frozenset({"timeout"}), SHARDS)
    assert found == {"decode": {number: frozenset({"timeout"}) for number in (1, 3, 5)}}


@pytest.mark.parametrize("shard_range", [None, range(1, SHARDS)])
def test_files_of_shards_that_a_new_catalog_does_not_have_are_left_alone(
    tables: CountedTables, shard_range: range | None
) -> None:
    found = failed_shards(tables, SPECS, ["decode"], frozenset(), 3, shard_range)
    assert set(found["decode"]) == {0, 1, 2} - ({0} if shard_range else set())
    assert {shard_id for _, shard_id in tables.asked} == {f"{number:08d}" for number in found["decode"]}
    plan = plan_for(tables, 3, selected=["decode"], retry=found)
    assert plan.order.tolist() == sorted(found["decode"])
