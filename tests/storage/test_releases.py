"""Where releases lie: the pointer, what is unfinished, and what a publish clears, on folders and S3."""

from dataclasses import replace

import pytest

from records.errors import ReelscribeError, UserError
from storage.backends import Piece
from storage.releases import Releases, release_path, work_path
from storage.stores import Store
from tests.records.test_releases import MANIFEST


def paths(store: Store, prefix: str = "") -> list[str]:
    return [entry.path for entry in store.list(prefix)]


def test_the_pointer_moves_to_releases_only_and_says_whether_it_moved(store: Store) -> None:
    releases = Releases(store)
    assert releases.latest() is None
    with pytest.raises(UserError, match="is no release"):
        releases.point_latest("r1")
    for name in ("r1", "r2"):
        releases.commit(replace(MANIFEST, release=name))
        assert releases.point_latest(name)
        assert not releases.point_latest(name)
        assert releases.latest() == name
        assert releases.manifest(name) == replace(MANIFEST, release=name)
    assert releases.manifest("r3") is None


def test_a_manifest_is_never_changed(store: Store) -> None:
    releases = Releases(store)
    releases.commit(MANIFEST)
    releases.commit(MANIFEST)
    with pytest.raises(ReelscribeError, match="was written by somebody else"):
        releases.commit(replace(MANIFEST, content="other"))
    assert releases.manifest("r1") == MANIFEST


def test_a_damaged_manifest_is_named(store: Store) -> None:
    path = release_path("r1", "manifest.json")
    store.create(path, MANIFEST.encode()[:-20])
    with pytest.raises(UserError) as caught:
        Releases(store).manifest("r1")
    assert store.uri(path) in str(caught.value)


def test_what_has_no_manifest_is_unfinished(store: Store) -> None:
    releases = Releases(store)
    releases.commit(MANIFEST)
    store.create(release_path("r1", "report.html"), b"x")
    assert list(releases.unfinished()) == []
    store.create(release_path("r2", "items/part-00000.parquet"), b"x")
    store.create(work_path("r3", "w", "started.json"), b"x")
    store.create(work_path("r1", "w", "part-00000.parquet"), b"x")  # killed after its manifest
    assert dict(releases.unfinished()) == {
        "r1": ["publishing/r1/w/part-00000.parquet"],
        "r2": ["releases/r2/items/part-00000.parquet"],
        "r3": ["publishing/r3/w/started.json"],
    }


def test_work_of_the_same_content_stays_and_any_other_goes(store: Store) -> None:
    releases = Releases(store)

    def leave(work: str) -> None:
        releases.begin_work("r1", work)
        store.create(release_path("r1", "items/part-00000.parquet"), b"x")
        store.create(work_path("r1", work, "part-00000.parquet"), b"x")
        path = release_path("r1", "vectors/all.npy")
        store.put_piece(path, store.start_upload(path), Piece(number=0, offset=0), b"x")

    leave("same")
    store.create("releases/r10/items/part-00000.parquet", b"of another release")
    releases.clear("r1", keep_work="same")
    assert len(paths(store)) == 4
    assert store.open_uploads("") == []
    leave("other")
    releases.clear("r1", keep_work="same")
    assert paths(store) == ["releases/r10/items/part-00000.parquet"]
    assert store.open_uploads("") == []


def test_a_look_before_the_manifest_finds_what_is_wrong_and_removes_what_nobody_names(store: Store) -> None:
    releases = Releases(store)
    store.create(release_path("r1", "a"), b"123")
    store.create(release_path("r1", "stray"), b"x")
    releases.remove_others("r1", {"a": 3})
    assert paths(store, "releases/") == ["releases/r1/a"]
    with pytest.raises(ReelscribeError, match="releases/r1/a is 3 bytes, not 4"):
        releases.remove_others("r1", {"a": 4})
    with pytest.raises(ReelscribeError, match="releases/r1/b is not there, not 1"):
        releases.remove_others("r1", {"a": 3, "b": 1})
