"""The rows of a release hold what the stage tables hold, and the counts what a plain loop counts."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.publish_rows import aligned, footer_note, release_table, shard_statistics, vectors_of
from pipeline.quality_stats import ReleaseStatistics
from records.errors import Failure, FailureKind, ReelscribeError
from records.items import CatalogItem, Metadata
from records.outcomes import STAGES, Caption, Embedding, MediaFacts, Outcome, View
from records.releases import VIEWS
from records.schemas import StageRow, stage_table
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.pipeline.stage_maker import Change, Maker, as_made, ids_of

GONE = Failure(stage="decode", kind=FailureKind.NOT_FOUND, message="no such object", attempts=2)


def made(ids: Sequence[str], change: Change = as_made, stages: Sequence[str] = STAGES) -> dict[str, pa.Table]:
    maker = Maker(store=Store.open("unused"))
    outcomes = {stage: [(one, change(stage, one, maker.outcome(stage, one, ""))) for one in ids] for stage in stages}
    return {
        stage: stage_table(
            stage, [StageRow(video_id=one, version=1, generation=0, outcome=outcome) for one, outcome in rows]
        )
        for stage, rows in outcomes.items()
    }


def items(ids: Sequence[str]) -> list[CatalogItem]:
    return [CatalogItem(video_id=one, version=1, uri=f"/{one}", size_bytes=1, etag="e") for one in ids]


def table_of(ids: Sequence[str], tables: dict[str, pa.Table]) -> pa.Table:
    titles = {(one, 1): Metadata(title=f"title {one}") for one in ids[::2]}
    return release_table(items(ids), titles, tables, "float32")


def test_a_row_holds_what_each_stage_made() -> None:
    ids = ids_of(12)
    maker = Maker(store=Store.open("unused"))
    lines = table_of(ids, made(ids)).to_pylist()
    for number, (one, line) in enumerate(zip(ids, lines, strict=True)):
        outcome: Any = {stage: maker.outcome(stage, one, "") for stage in STAGES}
        assert (line["video_id"], line["version"], line["uri"]) == (one, 1, f"/{one}")
        assert line["title"] == (f"title {one}" if number % 2 == 0 else "")
        assert line["duration_seconds"] == outcome["decode"].duration_seconds
        assert line["caption"] == outcome["caption"].text
        assert (line["transcript"], line["language"]) == (outcome["transcribe"].text, outcome["transcribe"].language)
        assert line["audio_description"] == outcome["describe_audio"].text
        tags = [(tag["label"], tag["score"]) for tag in line["audio_tags"]]
        assert tags == list(zip(outcome["tag_audio"].labels, outcome["tag_audio"].scores, strict=True))
        for name in VIEWS:
            view = getattr(outcome["embed"], name)
            assert (line[f"document_{name}"], line[f"missing_{name}"]) == (view.document, view.missing)
            assert (line[f"vector_{name}"] is None) == (view.vector is None)
            if view.vector is not None:
                np.testing.assert_array_equal(line[f"vector_{name}"], view.vector)
        assert line["errors"] == []


def test_failures_stand_in_errors_and_leave_nulls() -> None:
    ids = ids_of(4)

    def change(stage: str, video_id: str, outcome: Outcome | Failure) -> Outcome | Failure:
        if video_id == ids[1] and stage in ("decode", "caption", "tag_audio", "embed"):
            return GONE
        if video_id == ids[2] and isinstance(outcome, MediaFacts):
            return MediaFacts(duration_seconds=1.0, has_video=True, has_audio=True, audio_failure=GONE)
        return outcome

    tables = made(ids, change)
    lines = table_of(ids, tables).to_pylist()
    found = [(error["stage"], error["cause"], error["kind"], error["attempts"]) for error in lines[1]["errors"]]
    assert found == [(stage, "decode", "not_found", 2) for stage in ("decode", "caption", "tag_audio", "embed")]
    assert [error["stage"] for error in lines[2]["errors"]] == ["decode"]
    assert (lines[1]["caption"], lines[1]["duration_seconds"], lines[1]["audio_tags"]) == (None, None, None)
    assert lines[1]["transcript"] is not None
    assert {lines[1][f"missing_{view}"] for view in VIEWS} == {"not_found"}
    assert {lines[1][f"vector_{view}"] for view in VIEWS} == {None}
    statistics = shard_statistics(table_of(ids, tables), tables, {})
    assert statistics.rows_with_errors == 2
    assert {stage: count for stage, count in statistics.failed_rows.items() if count} == {
        "decode": 2, "caption": 1, "tag_audio": 1, "embed": 1,
    }  # fmt: skip
    assert statistics.error_kinds["decode"] == {"not_found": 2}


def test_a_stage_that_the_config_lacks_is_null_and_not_counted() -> None:
    ids = ids_of(3)
    tables = made(ids, stages=("decode", "caption", "embed"))
    table = table_of(ids, tables)
    assert table["transcript"].null_count == table["audio_tags"].null_count == len(ids)
    statistics = shard_statistics(table, tables, {})
    assert statistics.texts.keys() == {"caption"}
    assert statistics.failed_rows.keys() == {"decode", "caption", "embed"}


def test_lines_are_put_in_the_items_order_and_a_missing_one_is_named() -> None:
    ids = ids_of(6)
    table = made(ids)["caption"]
    keys = [(one, 1) for one in ids]
    assert aligned("caption", table, keys) is table
    wanted = [keys[4], keys[0], keys[2]]
    found = aligned("caption", table, wanted)
    assert list(zip(found["video_id"].to_pylist(), found["version"].to_pylist(), strict=True)) == wanted
    with pytest.raises(ReelscribeError, match=r"caption has no line of \('clip-0001', 2\)"):
        aligned("caption", table, [("clip-0001", 2)])


def test_vectors_of_two_lengths_are_refused() -> None:
    with pytest.raises(ReelscribeError, match=r"vectors of \[1, 2\] dimensions"):
        vectors_of(pa.array([[1.0], [1.0, 2.0], None], pa.list_(pa.float32())))
    halves = pa.list_(pa.float16())
    vectors, has = vectors_of(pa.chunked_array([pa.array([[1.0, 2.0], None], halves), pa.array([[3.0, 4.0]], halves)]))
    assert (vectors.tolist(), has.tolist()) == ([[1, 2], [3, 4]], [True, False, True])
    assert vectors.dtype == np.float16
    assert vectors_of(pa.array([None], pa.list_(pa.float32())))[0].shape == (0, 0)


texts = st.text(alphabet="ab \n", max_size=6)
lines = st.lists(st.tuples(texts, st.sampled_from(["stop", "length"]), st.booleans(), st.floats(0.5, 1.5)), max_size=12)


@settings(deadline=None, max_examples=60)
@given(drawn=lines, at=st.integers(0, 12))
def test_counts_equal_a_plain_loop_however_the_rows_are_cut(drawn: list[tuple[str, str, bool, float]], at: int) -> None:
    ids = ids_of(len(drawn))
    by_id = dict(zip(ids, drawn, strict=True))

    def change(stage: str, video_id: str, outcome: Outcome | Failure) -> Outcome | Failure:
        text, reason, fails, length = by_id[video_id]
        if stage == "caption":
            return GONE if fails else Caption(text=text, finish_reason=reason)
        if stage == "embed":
            view = View(document=text, vector=np.array([length, 0.0], np.float32), chunks=1, cut=reason == "length")
            none = View(document="", vector=None, missing="not_found")
            return Embedding(video=none if fails else view, audio=none, metadata=view, all=view)
        return outcome

    def counted(some: Sequence[str]) -> ReleaseStatistics:
        tables = made(some, change)
        return shard_statistics(table_of(some, tables), tables, {"caption": {"v1": 1}})

    merged = ReleaseStatistics().merged(counted(ids[:at])).merged(counted(ids[at:]))
    good = [(text, reason) for text, reason, fails, _ in drawn if not fails]
    captions = merged.texts["caption"]
    assert (merged.rows, merged.rows_with_errors) == (len(drawn), len(drawn) - len(good))
    assert (captions.expected, captions.empty) == (len(good), sum(not text.strip() for text, _ in good))
    assert captions.truncated == sum(reason == "length" for _, reason in good)
    assert captions.lengths.total == sum(len(text.strip()) for text, _ in good)
    words = [" ".join(text.split()) for text, _ in good if text.strip()]
    assert (merged.captions.rows, merged.captions.distinct) == (len(words), len(set(words)))
    assert merged.repeats.counts == dict(Counter(words))
    video, everything = merged.views["video"], merged.views["all"]
    assert video.missing == ({"not_found": len(drawn) - len(good)} if len(drawn) > len(good) else {})
    assert everything.vectors == len(drawn)
    assert everything.off_unit == sum(abs(np.float32(length) - 1) > 0.01 for *_, length in drawn)
    assert everything.cut == sum(reason == "length" for _, reason, _, _ in drawn)
    assert everything.norm_total == pytest.approx(sum(float(np.float32(length)) for *_, length in drawn))
    languages = Counter(Maker(store=Store.open("u")).outcome("transcribe", one, "").language for one in ids)  # type: ignore[union-attr]
    assert merged.languages == {code: count for code, count in languages.items() if code}
    assert ReleaseStatistics.decode(merged.encode()) == merged
    assert len(merged.brief().encode()) < 20_000


def test_a_manifest_keeps_what_made_a_file_and_neither_its_run_nor_its_counts(tmp_path: Path) -> None:
    """Otherwise each file of a catalogue would be a line of its own."""
    tables = StageTables(Store.open(str(tmp_path)))
    facts = MediaFacts(duration_seconds=1.0, has_video=True, has_audio=True)
    broken = replace(facts, audio_failure=Failure(stage="decode", kind=FailureKind.CORRUPT, message="no sound"))
    outcomes: list[Outcome | Failure] = [facts, broken, GONE]
    for number, outcome in enumerate(outcomes):
        row = StageRow(video_id="a", version=1, generation=0, outcome=outcome)
        assert tables.commit("decode", "f1", f"{number:08d}", 0, [row], {"run_id": f"r{number}", "model": "m"})
    files = sorted((tmp_path / "stages" / "decode" / "f1").iterdir())
    assert len(files) == 3
    notes = {footer_note(pq.read_schema(file).metadata) for file in files}
    (note,) = notes
    assert json.loads(note)["model"] == "m"
