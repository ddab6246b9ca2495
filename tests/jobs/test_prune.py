"""What `jobs.prune` leaves where a lease was lost, or a release was finished, while it was at work."""

from pathlib import Path

import pytest

from jobs import prune
from jobs.cli import run_command
from jobs.prune import Found, Removable, remove
from pipeline.assemble import build_specs
from pipeline.recipes import tiny
from records.errors import BusyError
from storage.backends import DELETE_PATHS
from storage.leases import SHARDS, Lease
from storage.releases import LEASE, Releases
from storage.stores import Store
from tests.jobs.test_tables import FINE, decoded, listed
from tests.pipeline.publishing import CONFIG, filled, objects, publish


def paths(store: Store) -> set[str]:
    return {entry.path for entry in store.list()}


@pytest.mark.parametrize("checks", range(7))
def test_each_request_to_delete_comes_after_a_look_at_the_leases(tmp_path: Path, checks: int) -> None:
    store = Store.open(str(tmp_path))
    older = tuple((f"{number:08d}", 0) for number in range(DELETE_PATHS + 1))
    groups = [
        {f"stages/decode/f1/{shard_id}.{number}.parquet" for shard_id, number in older[:DELETE_PATHS]},
        {f"stages/decode/f1/{older[-1][0]}.0.parquet"},
        {"catalog/shards/00000077.parquet"},
        set[str](),  # pieces of uploads
        {"releases/bad/report.html", "publishing/bad/w/started.json"},
    ]
    for path in set[str]().union(*groups):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks > checks:
            raise BusyError("lost")

    found = Found(
        tables=[Removable(stage="decode", fingerprint="f1", reason="", files=older)],
        leftovers=sorted(groups[2]),
        unfinished={"bad": sorted(groups[4])},
    )
    if checks >= len(groups):
        assert remove(store, found, check) == DELETE_PATHS + 4
    else:
        with pytest.raises(BusyError):
            remove(store, found, check)
    assert paths(store) == set[str]().union(*groups[checks:])


def test_a_release_that_was_finished_meanwhile_stays(tmp_path: Path) -> None:
    uri = str(tmp_path / "out")
    filled(uri)
    publish(uri, "may", CONFIG)
    store = Store.open(uri)
    before = objects(uri)
    store.create("publishing/may/w/started.json", b"{}")
    manifest = store.read_bytes("releases/may/manifest.json")
    store.delete(["releases/may/manifest.json"])
    unfinished = dict(Releases(store).unfinished())
    assert len(unfinished["may"]) == len(before) - 1  # without LATEST and the manifest, with what was kept aside
    store.create("releases/may/manifest.json", manifest)
    assert remove(store, Found(tables=[], leftovers=[], unfinished=unfinished), lambda: None) == 1
    assert objects(uri) == before
    assert objects(uri, "publishing/") == {}


@pytest.mark.parametrize("lost", [SHARDS, LEASE])
def test_prune_stops_where_either_lease_was_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    listed(tmp_path, {"a": "1"})
    for fingerprint in ("another", build_specs(tiny())["decode"].fingerprint):
        decoded(tmp_path, "00000000", {("a", 1): FINE}, fingerprint)
    acquire = Lease.acquire
    before = paths(Store.open(str(tmp_path)))

    def taken_over(store: Store, run_id: str, name: str = SHARDS) -> Lease:
        lease = acquire(store, run_id, name=name)
        if name == lost:
            lease.lost.set()
        return lease

    monkeypatch.setattr(Lease, "acquire", taken_over)
    assert run_command(prune.main, ["--output", str(tmp_path), "--recipe", "tiny", "--yes"]) == 2
    assert f"leases/{lost}.json: another run may hold it" in capsys.readouterr().err
    assert before <= paths(Store.open(str(tmp_path)))
