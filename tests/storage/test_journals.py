"""Journals: every row appended is there after a kill, and one shard's rows are read without the rest."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from wsgiref.types import WSGIEnvironment

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from records.errors import Failure, FailureKind
from records.outcomes import Caption
from records.schemas import JournalRow, journal_table
from storage.journals import Journal, delete_run_journals, journal_files
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.journal_rows import read_journals


def row(shard: int, video_id: str, text: str = "") -> JournalRow:
    failure = Failure(stage="transcribe", kind=FailureKind.CRASHED, message="x")
    return JournalRow(
        shard_id=f"{shard:08d}",
        position=ord(video_id[0]),
        video_id=video_id,
        version=1,
        fingerprints={"caption": "f1", "transcribe": "f2"},
        generations={"caption": 0, "transcribe": 3},
        outcomes={"caption": Caption(text=text or video_id), "transcribe": failure},
    )


def test_rows_come_back_whole_by_shard(store: Store) -> None:
    journal = Journal(store, "run-1")
    assert journal.append([row(2, "c"), row(1, "b"), row(1, "a")]) == 0
    assert journal.append([row(1, "d")]) == 1
    assert journal.read("00000001") == [row(1, "a"), row(1, "b"), row(1, "d")]
    assert Journal(store, "run-1").read("00000002") == [row(2, "c")]
    assert journal.read("00000009") == []


def test_many_rows_are_one_file_of_small_groups_and_never_one_table(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[int] = []

    def made(rows: Sequence[JournalRow]) -> pa.Table:
        tables.append(len(rows))
        return journal_table(rows)

    monkeypatch.setattr("storage.journals.journal_table", made)
    rows = [replace(row(number // 100, "a"), video_id=f"{number:05d}", position=number) for number in range(2500)]
    Journal(store, "run-1").append(rows[::-1])
    assert list(read_journals(store)) == rows
    (file,) = journal_files(store, "run-1")
    assert file.rows == sum(tables) == 2500
    assert len(file.groups) == -(-2500 // 64)
    assert max(tables) <= 1024, "what is written would be in memory once more"


def test_a_resumed_run_appends_behind_what_is_there(store: Store) -> None:
    Journal(store, "run-1").append([row(1, "a")])
    resumed, other = Journal(store, "run-1"), Journal(store, "run-1")
    assert resumed.append([row(1, "b")]) == 1
    assert other.append([row(1, "c")]) == 2
    assert resumed.append([]) == 2, "nothing is written without rows"
    assert [found.video_id for found in read_journals(store)] == ["a", "b", "c"]


def test_journals_of_all_runs_and_their_end(store: Store) -> None:
    for run in ("run-2", "run-1"):
        Journal(store, run).append([row(5, run), row(4, run)])
    store.create("runs/run-3/report.json", b"{}")
    found = [(row.shard_id, row.video_id) for row in read_journals(store)]
    assert found == [("00000004", "run-1"), ("00000005", "run-1"), ("00000004", "run-2"), ("00000005", "run-2")]
    delete_run_journals(store, "run-1")
    assert [row.video_id for row in read_journals(store)] == ["run-2", "run-2"]
    assert store.exists("runs/run-3/report.json")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=150), min_size=1, max_size=3))
def test_reading_by_shard_equals_filtering(tmp_path_factory: object, files: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("out")  # type: ignore[attr-defined]
    store = Store.open(str(folder))
    journal = Journal(store, "r")
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for number, shards in enumerate(files):
        rows = [row(shard, f"{number}-{place}") for place, shard in enumerate(shards)]
        journal.append(rows)
        for one in rows:
            wanted[one.shard_id].add(one.video_id)
    for shard in range(10):
        found = [one.video_id for one in journal.read(f"{shard:08d}")]
        assert sorted(found) == sorted(wanted[f"{shard:08d}"])


def test_only_matching_row_groups_travel(s3_server: S3Server, s3_bucket: str) -> None:
    store = Store.open(s3_bucket)
    journal = Journal(store, "r")
    # Texts that do not compress, so that row groups have a size worth saving.
    journal.append([row(shard, f"{shard}-{n}", os.urandom(500).hex()) for shard in range(40) for n in range(64)])
    size = next(store.list("runs/r/journal/")).size_bytes
    journal.read("00000000")  # the footer is known from here on
    ranges: list[str] = []

    def note(environ: WSGIEnvironment) -> None:
        ranges.append(environ.get("HTTP_RANGE", ""))

    with s3_server.refusing(note):
        assert len(journal.read("00000020")) == 64
    asked = [int(last) - int(first) + 1 for first, last in (found[6:].split("-") for found in ranges if found)]
    assert 0 < sum(asked) < size / 2


def test_a_file_goes_once_all_its_shards_are_committed(store: Store) -> None:
    journal = Journal(store, "r")
    journal.append([row(1, "a"), row(2, "b")])
    journal.append([row(2, "c")])
    journal.forget("00000001")
    assert [found.video_id for found in read_journals(store)] == ["a", "b", "c"]
    journal.forget("00000002")
    journal.forget("00000009")
    assert list(read_journals(store)) == []
    assert journal.append([row(3, "d")]) == 2
    assert journal.read("00000003") == [row(3, "d")]


def test_only_groups_with_a_wanted_shard_are_read(store: Store) -> None:
    Journal(store, "r").append([row(shard, f"{shard}") for shard in range(200)])
    (file,) = journal_files(store, "r")
    assert (file.rows, len(file.groups)) == (200, 4)
    wanted = [one.shard_id for one in file.read(lambda first, last: first <= "00000070" <= last)]
    assert wanted == [f"{shard:08d}" for shard in range(64, 128)]


def test_foreign_names_in_a_journals_folder_are_left_alone(store: Store) -> None:
    Journal(store, "run-1").append([row(1, "a")])
    foreign = ["._00000000.parquet", "00000007.bak.parquet", "notes", "7.parquet"]
    for name in foreign:
        store.create(f"runs/run-1/journal/{name}", b"not ours")
    journal = Journal(store, "run-1")
    assert journal.append([row(1, "b")]) == 1
    assert journal.read("00000001") == [row(1, "a"), row(1, "b")]
    assert [found.video_id for found in read_journals(store)] == ["a", "b"]
    delete_run_journals(store, "run-1")
    assert [entry.path.rpartition("/")[2] for entry in store.list("runs/")] == sorted(foreign)
