"""What `jobs.status` counts and `jobs.prune` refuses, on tables that no engine had to make."""

import json
from pathlib import Path

import pytest

from jobs import prune, status
from jobs.cli import run_command
from pipeline.assemble import build_specs
from pipeline.recipes import tiny
from records.errors import Failure, FailureKind
from records.outcomes import MediaFacts, Outcome
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
