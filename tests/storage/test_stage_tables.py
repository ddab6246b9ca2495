"""Stage tables: committed once, listed by number, read as they were written."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.errors import Failure, FailureKind
from records.outcomes import Caption, Embedding, View
from records.schemas import StageRow
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.s3 import S3Server

ROWS = [
    StageRow(video_id="a", version=1, generation=0, outcome=Caption(text="ä", finish_reason="stop", output_tokens=3)),
    StageRow(
        video_id="b",
        version=2,
        generation=0,
        outcome=Failure(stage="decode", kind=FailureKind.CORRUPT, message="no stream", attempts=2),
    ),
]


def test_the_first_commit_stands(store: Store) -> None:
    tables = StageTables(store)
    assert tables.commit("caption", "f1", "00000003", 0, ROWS, {"vllm": "0.29.0"})
    assert tables.commit("caption", "f1", "00000003", 0, ROWS, {"vllm": "0.29.0"}), "the same rows again: committed"
    assert not tables.commit("caption", "f1", "00000003", 0, ROWS[::-1], {"vllm": "0.29.0"})
    assert tables.read("caption", "f1", "00000003", 0) == ROWS
    footer = tables.read_table("caption", "f1", "00000003", 0).schema.metadata
    assert footer is not None
    assert footer[b"vllm"] == b"0.29.0"
    assert tables.fingerprints("caption") == ["f1"]
    assert tables.fingerprints("embed") == []


def test_generations_are_numbers(store: Store) -> None:
    tables = StageTables(store)
    for shard_id, generation in (("00000000", 2), ("00000000", 10), ("00000000", 9), ("00000007", 0)):
        tables.commit("caption", "f1", shard_id, generation, ROWS, {})
    tables.commit("caption", "f2", "00000001", 0, ROWS, {})
    assert list(tables.generations("caption", "f1")) == [("00000000", 10), ("00000007", 0)]
    assert list(tables.all_generations("caption", "f1")) == [
        ("00000000", 2),
        ("00000000", 9),
        ("00000000", 10),
        ("00000007", 0),
    ]
    tables.delete("caption", "f1", [("00000000", 10), ("00000000", 11)])
    assert list(tables.generations("caption", "f1")) == [("00000000", 9), ("00000007", 0)]
    assert tables.fingerprints("caption") == ["f1", "f2"]


@settings(max_examples=30, deadline=None)
@given(files=st.sets(st.tuples(st.integers(0, 20), st.integers(0, 120)), max_size=15))
def test_generations_equal_a_dictionary(tmp_path_factory: pytest.TempPathFactory, files: set[tuple[int, int]]) -> None:
    store = Store.open(str(tmp_path_factory.mktemp("out")))
    highest: dict[str, int] = {}
    for number, generation in files:
        store.create(f"stages/tag_audio/f/{number:08d}.{generation}.parquet", b"")
        highest[f"{number:08d}"] = max(generation, highest.get(f"{number:08d}", 0))
    tables = StageTables(store)
    assert list(tables.generations("tag_audio", "f")) == sorted(highest.items())
    assert list(tables.all_generations("tag_audio", "f")) == [(f"{n:08d}", g) for n, g in sorted(files)]


def test_planning_reads_nothing_and_lists_once(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.fill(s3_bucket, (f"stages/caption/f/{number:08d}.0.parquet" for number in range(2500)))
    tables = StageTables(Store.open(s3_bucket))
    start = len(s3_server.requests)
    assert sum(1 for _ in tables.generations("caption", "f")) == 2500
    assert [method for method, _ in s3_server.requests[start:]] == ["GET"] * 3


def test_vectors_are_stored_in_the_type_asked_for(store: Store) -> None:
    view = View(document="d", vector=np.array([0.5, -0.25], dtype=np.float32))
    none = View(document="", vector=None, missing="no_audio")
    row = StageRow(
        video_id="a", version=1, generation=0, outcome=Embedding(video=view, audio=none, metadata=view, all=view)
    )
    for dtype, width in (("float16", "halffloat"), ("float32", "float")):
        tables = StageTables(store, vector_dtype=dtype)  # type: ignore[arg-type]
        tables.commit("embed", dtype, "00000000", 0, [row], {})
        assert width in str(tables.read_table("embed", dtype, "00000000", 0).schema.field("video").type)
        (found,) = tables.read("embed", dtype, "00000000", 0)
        assert isinstance(found.outcome, Embedding)
        assert found.outcome.audio.vector is None
        np.testing.assert_array_equal(found.outcome.all.vector, view.vector)


def test_some_columns_and_missing_files(store: Store) -> None:
    tables = StageTables(store)
    many = [replace(ROWS[0], video_id=str(number)) for number in range(100)]
    tables.commit("caption", "f", "00000000", 0, many, {})
    assert tables.read_table("caption", "f", "00000000", 0, ["video_id", "error"]).column_names == ["video_id", "error"]
    with pytest.raises(FileNotFoundError):
        tables.read("caption", "f", "00000000", 1)


def test_files_are_plain_parquet(store: Store) -> None:
    StageTables(store).commit("caption", "f", "00000000", 0, ROWS, {})
    with store.open_input("stages/caption/f/00000000.0.parquet") as file:
        assert pq.read_table(file)["video_id"].to_pylist() == ["a", "b"]


def test_foreign_names_among_the_files_are_left_alone(store: Store) -> None:
    tables = StageTables(store)
    tables.commit("caption", "f1", "00000003", 2, ROWS, {})
    foreign = [
        "._00000000.0.parquet",
        "00000003.0.bak.parquet",
        "00000003.parquet",
        "notes.parquet",
        "x",
        "3.0.parquet",
    ]
    for name in foreign:
        store.create(f"stages/caption/f1/{name}", b"not ours")
    assert [file[:2] for file in tables.files("caption", "f1")] == [("00000003", 2)]
    assert list(tables.all_generations("caption", "f1")) == [("00000003", 2)]
    assert list(tables.generations("caption", "f1")) == [("00000003", 2)]
    assert list(tables.all_files("caption", "f1")) == [(3, 2)]
    assert {entry.path.rpartition("/")[2] for entry in store.list("stages/")} == {*foreign, "00000003.2.parquet"}
