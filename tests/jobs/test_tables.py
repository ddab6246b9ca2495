"""What `jobs.status` counts, `jobs.demo` shows and `jobs.prune` refuses, on tables that no engine had to make."""

import json
import os
import threading
from pathlib import Path

import pytest

from jobs import prune, status
from jobs.cli import run_command
from jobs.demo_table import read_rows
from pipeline.assemble import build_specs
from pipeline.recipes import tiny
from pipeline.retry import failed_shards
from pipeline.spec import StageSpec
from records.errors import Failure, FailureKind
from records.outcomes import Caption, MediaFacts, Outcome
from records.schemas import StageRow
from storage.catalog import Catalog
from storage.catalog_refresh import refresh
from storage.leases import SHARDS, Lease
from storage.sources import SourceItem
from storage.stage_tables import StageTables
from storage.stores import Store

BROKEN = Failure(stage="decode", kind=FailureKind.CORRUPT, message="no picture")
FINE = MediaFacts(duration_seconds=1.0, has_video=True, has_audio=True)
NO_SOUND = MediaFacts(duration_seconds=1.0, has_video=True, has_audio=True, audio_failure=BROKEN)


def listed(output: Path, etags: dict[str, str]) -> None:
    items = [SourceItem(video_id=name, uri=f"/{name}", size_bytes=1, etag=etag) for name, etag in etags.items()]
    refresh(Store.open(str(output)), items, None, "/", 10, lambda shard_id: 1)


def decoded(output: Path, shard_id: str, outcomes: dict[tuple[str, int], Outcome | Failure], fingerprint: str) -> None:
    rows = [
        StageRow(video_id=key[0], version=key[1], generation=0, outcome=outcome) for key, outcome in outcomes.items()
    ]
    assert StageTables(Store.open(str(output))).commit("decode", fingerprint, shard_id, 0, rows, {"run_id": "r1"})


def status_of(output: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert run_command(status.main, ["--output", str(output), "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    return {name: stage[name] for name in ("shards", "rows", "errors", "stream_errors")}


def test_status_counts_no_item_that_was_deleted_or_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(tmp_path, {"a": "1", "b": "1", "c": "1", "d": "1"})
    decoded(tmp_path, "00000000", {("a", 1): FINE, ("b", 1): BROKEN, ("c", 1): NO_SOUND, ("d", 1): BROKEN}, "f1")
    assert status_of(tmp_path, capsys) == {
        "shards": 1,
        "rows": 4,
        "errors": {"corrupt": 2},
        "stream_errors": {"corrupt": 1},
    }
    listed(tmp_path, {"a": "1", "b": "2", "c": "1"})
    assert status_of(tmp_path, capsys) == {"shards": 1, "rows": 2, "errors": {}, "stream_errors": {"corrupt": 1}}
    decoded(tmp_path, "00000001", {("b", 2): FINE}, "f1")
    assert status_of(tmp_path, capsys) == {"shards": 2, "rows": 3, "errors": {}, "stream_errors": {"corrupt": 1}}


def test_the_demos_table_shows_no_item_that_was_deleted_or_replaced(tmp_path: Path) -> None:
    def captioned(shard_id: str, texts: dict[tuple[str, int], str]) -> None:
        rows = [
            StageRow(video_id=key[0], version=key[1], generation=0, outcome=Caption(text=text))
            for key, text in texts.items()
        ]
        assert StageTables(Store.open(str(tmp_path))).commit("caption", "f1", shard_id, 0, rows, {"run_id": "r1"})

    def shown(limit: int) -> list[tuple[str, str]]:
        rows = read_rows(Store.open(str(tmp_path)), {"caption": "f1"}, limit)
        return [(row.video_id, row.cells["caption"]) for row in rows]

    listed(tmp_path, {"a": "1", "b": "1", "c": "1"})
    captioned("00000000", {("a", 1): "one", ("b", 1): "two", ("c", 1): "three"})
    assert shown(2) == [("a", "one"), ("b", "two")]
    listed(tmp_path, {"b": "2", "c": "1"})
    captioned("00000001", {("b", 2): "new"})
    assert shown(9) == [("b", "new"), ("c", "three")]
    assert shown(1) == [("c", "three")]  # the first live one of the first shard


def test_status_names_a_damaged_file_and_counts_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(tmp_path, {"a": "1"})
    decoded(tmp_path, "00000000", {("a", 1): FINE}, "f1")
    decoded(tmp_path, "00000000", {("a", 1): FINE}, "f2")
    (file,) = tmp_path.glob("stages/decode/f1/*")
    file.write_bytes(file.read_bytes()[:100])
    assert run_command(status.main, ["--output", str(tmp_path), "--json"]) == 1
    said = capsys.readouterr()
    assert [(one["fingerprint"], one["rows"], len(one["damaged"])) for one in json.loads(said.out)["stages"]] == [
        ("f1", 0, 1), ("f2", 1, 0),
    ]  # fmt: skip
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: {file} is damaged: delete it")


def test_prune_refuses_a_config_that_made_nothing_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(tmp_path, {"a": "1"})
    decoded(tmp_path, "00000000", {("a", 1): FINE}, "another")
    command = ["--output", str(tmp_path), "--recipe", "tiny", "--yes"]
    assert run_command(prune.main, command) == 2
    assert "all of it would go" in capsys.readouterr().err
    assert list(StageTables(Store.open(str(tmp_path))).generations("decode", "another")) == [("00000000", 0)]
    decoded(tmp_path, "00000000", {("a", 1): FINE}, build_specs(tiny())["decode"].fingerprint)
    assert run_command(prune.main, command) == 0
    assert "removed 1 files" in capsys.readouterr().out
    assert StageTables(Store.open(str(tmp_path))).fingerprints("decode") == [build_specs(tiny())["decode"].fingerprint]


def test_prune_looks_at_the_catalog_once_it_holds_the_lease(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(tmp_path, {"a": "1"})
    decoded(tmp_path, "00000000", {("a", 1): FINE}, build_specs(tiny())["decode"].fingerprint)
    acquire = Lease.acquire

    def after_a_listing(store: Store, run_id: str, name: str = SHARDS) -> Lease:
        if name == SHARDS:
            listed(tmp_path, {"a": "1", "b": "1"})
        return acquire(store, run_id, name=name)

    monkeypatch.setattr(Lease, "acquire", after_a_listing)
    assert run_command(prune.main, ["--output", str(tmp_path), "--recipe", "tiny", "--yes"]) == 0
    catalog = Catalog.open(Store.open(str(tmp_path)))
    assert catalog is not None
    assert [item.video_id for shard in catalog.shard_ids() for item in catalog.read_shard(shard)] == ["a", "b"]


def test_prune_removes_what_killed_writers_left_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed(tmp_path, {"a": "1"})
    decoded(tmp_path, "00000000", {("a", 1): FINE}, build_specs(tiny())["decode"].fingerprint)
    old, young = tmp_path / ".tmp" / "old.part", tmp_path / ".tmp" / "young.part"
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    command = ["--output", str(tmp_path), "--recipe", "tiny"]
    assert run_command(prune.main, command) == 0
    assert old.exists()
    capsys.readouterr()
    assert run_command(prune.main, [*command, "--yes"]) == 0
    said = capsys.readouterr().out
    assert "1 files  half-written" in said
    assert "removed 1 files" in said
    assert (old.exists(), young.exists()) == (False, True)
    assert run_command(prune.main, [*command, "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_status_beside_a_listing_and_a_prune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(tmp_path, {"a": "1", "b": "1"})
    decoded(tmp_path, "00000000", {("a", 1): FINE, ("b", 1): FINE}, "f1")
    listed(tmp_path, {"a": "1"})
    store = Store.open(str(tmp_path))
    before = Catalog.open(store)
    assert before is not None
    listed(tmp_path, {"a": "1", "c": "1"})
    decoded(tmp_path, "00000001", {("c", 1): FINE}, "f1")
    tables = StageTables(store)
    found = status.stage_status(before, tables, "decode", "f1")
    assert (found.shards, found.rows, found.gone) == (1, 1, 0)
    (tombstones,) = tmp_path.glob("catalog/removed/*")
    tombstones.unlink()
    found = status.stage_status(before, tables, "decode", "f1")
    assert (found.shards, found.rows, found.gone) == (0, 0, 1)
    assert run_command(status.main, ["--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: 1 files went while they were counted, as jobs.prune does: run it again\n"


def test_many_shards_are_counted_several_at_a_time_with_one_request_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [SourceItem(video_id=f"{number:02d}", uri="/x", size_bytes=1, etag="e") for number in range(40)]
    store = Store.open(str(tmp_path))
    refresh(store, items, None, "/", 1, lambda shard_id: 1)
    for number in range(40):
        outcome = BROKEN if number % 3 else FINE
        decoded(tmp_path, f"{number:08d}", {(f"{number:02d}", 1): outcome}, "f1")
    catalog, together, requests = Catalog.open(store), threading.Barrier(8, timeout=10), list[str]()
    assert catalog is not None
    backend = store._backend
    read_range = backend.read_range

    def slow(path: str, start: int, end: int) -> bytes:
        requests.append(path)
        together.wait()  # breaks unless eight are asked at once
        return read_range(path, start, end)

    monkeypatch.setattr(backend, "read_range", slow)
    monkeypatch.setattr(backend, "size", lambda path: pytest.fail("the listing has told it"))
    found = status.stage_status(catalog, StageTables(store), "decode", "f1")
    assert (found.shards, found.rows, found.errors) == (40, 40, {"corrupt": 26})
    assert len(requests) == len(set(requests)) == 40
    specs = {"decode": StageSpec(name="decode", fingerprint="f1", build=list)}
    requests.clear()
    chosen = failed_shards(StageTables(store), specs, ["decode"], frozenset(), 40)
    assert chosen == {"decode": {number: frozenset({"corrupt"}) for number in range(40) if number % 3}}
    assert len(requests) == len(set(requests)) == 40
