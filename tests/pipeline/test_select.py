"""Inside a shard only the lines that need it run, each with the stored outcomes that its stages read."""

from dataclasses import replace

from pipeline.plan import ShardTask
from pipeline.select import Tables, select_rows
from records.errors import FailureKind
from records.failures import known_failure
from records.items import Metadata
from records.outcomes import Outcome
from records.schemas import StageRow
from tests.pipeline.light import SPECS, failure, item, outcome

ITEMS = [item("a"), item("b"), item("c")]


def line(stage: str, video_id: str, *, generation: int = 0, of: "Outcome | None" = None) -> StageRow:
    return StageRow(video_id=video_id, version=1, generation=generation, outcome=of or outcome(stage, video_id))


def stored(*lines: tuple[str, StageRow]) -> Tables:
    tables: dict[str, dict[tuple[str, int], StageRow]] = {}
    for stage, row in lines:
        tables.setdefault(stage, {})[row.key] = row
    return tables


def pending(task: ShardTask, tables: Tables) -> dict[str, tuple[str, ...]]:
    rows = select_rows(task=task, items=dict(enumerate(ITEMS)), metadata={}, titles={}, tables=tables, specs=SPECS)
    assert all(row.issued_rows == len(rows) for row in rows)
    return {row.item.video_id: row.pending for row in rows}


def all_of(stage: str, generation: int = 0) -> list[tuple[str, StageRow]]:
    return [(stage, line(stage, one.video_id, generation=generation)) for one in ITEMS]


def test_a_missing_file_runs_every_line_and_reads_what_is_stored() -> None:
    task = ShardTask(shard_id="00000000", targets={"embed": 0}, existing={"decode": 0, "caption": 0})
    tables = stored(*all_of("caption"))
    rows = select_rows(
        task=task,
        items=dict(enumerate(ITEMS)),
        metadata={("a", 1): Metadata(title="t")},
        titles={},
        tables=tables,
        specs=SPECS,
    )
    assert [row.pending for row in rows] == [("embed",)] * 3
    assert rows[0].metadata == Metadata(title="t")
    assert rows[1].metadata == Metadata()
    assert rows[0].outcomes == {"caption": outcome("caption", "a")}


def test_a_line_whose_file_is_known_to_be_empty_has_failed_before_anything_runs() -> None:
    empty = replace(item("e"), size_bytes=0)
    unknown = replace(item("u"), size_bytes=None)
    targets = {"decode": 0, "caption": 0, "embed": 0}

    def outcomes(targets: dict[str, int]) -> list[dict[str, object]]:
        task = ShardTask(shard_id="00000000", targets=targets, existing={})
        items = {0: empty, 1: unknown, 2: item("a")}
        rows = select_rows(task=task, items=items, metadata={}, titles={}, tables={}, specs=SPECS)
        assert [row.pending for row in rows] == [tuple(targets)] * 3
        assert rows[1].outcomes == rows[2].outcomes == {}
        return [dict(rows[0].outcomes)]

    (found,) = outcomes(targets)
    assert found.keys() == {"decode", "caption"}, "its title still has a vector"
    assert found["decode"] == found["caption"] == known_failure(empty)
    assert outcomes({"caption": 0}) == [{"caption": known_failure(empty)}]


def test_a_retry_runs_the_failed_lines_of_the_kinds_asked_for_and_what_reads_them() -> None:
    broken = line("caption", "b").outcome
    tables = stored(
        *all_of("decode"),
        ("caption", line("caption", "a")),
        ("caption", replace(line("caption", "b"), outcome=failure("caption", FailureKind.TIMEOUT))),
        ("caption", replace(line("caption", "c"), outcome=failure("caption", FailureKind.CORRUPT))),
        *all_of("embed"),
    )
    task = ShardTask(
        shard_id="00000000",
        targets={"caption": 1, "embed": 1},
        existing={"decode": 0, "caption": 0, "embed": 0},
        retry={"caption": frozenset({"timeout"})},
    )
    assert pending(task, tables) == {"b": ("caption", "embed")}
    assert broken is not None


def test_a_line_older_than_what_it_read_runs_again_and_the_others_do_not() -> None:
    tables = stored(*all_of("caption"), ("caption", line("caption", "c", generation=2)), *all_of("embed"))
    task = ShardTask(shard_id="00000000", targets={"embed": 2}, existing={"caption": 2, "embed": 0})
    assert pending(task, tables) == {"c": ("embed",)}


def test_a_newer_title_runs_embed_for_its_item_alone() -> None:
    tables = stored(*all_of("caption"), *all_of("embed"))
    task = ShardTask(
        shard_id="00000000", targets={"embed": 3}, existing={"caption": 0, "embed": 0}, metadata_generation=3
    )
    titles = {("a", 1): 0, ("b", 1): 3}
    rows = select_rows(task=task, items=dict(enumerate(ITEMS)), metadata={}, titles=titles, tables=tables, specs=SPECS)
    assert {row.item.video_id: row.pending for row in rows} == {"b": ("embed",)}


def test_skipped_items_are_not_issued_and_a_preset_failure_travels_along() -> None:
    crash = failure("caption", FailureKind.WORKER_CRASHED)
    task = ShardTask(
        shard_id="00000000",
        targets={"decode": 0, "caption": 0, "embed": 0},
        existing={},
        skip=0b1,
        preset={("b", 1): {"caption": crash}},
    )
    rows = select_rows(task=task, items=dict(enumerate(ITEMS)), metadata={}, titles={}, tables={}, specs=SPECS)
    assert [(row.item.video_id, dict(row.outcomes)) for row in rows] == [("b", {"caption": crash}), ("c", {})]
