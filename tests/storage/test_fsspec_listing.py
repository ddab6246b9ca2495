"""A listing over fsspec equals `find`, sorted by the bytes of whole paths, one folder at a time."""

import itertools
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem
from hypothesis import given
from hypothesis import strategies as st

from storage.backends import path_order
from storage.faults import RetryConfig
from storage.stores import Store
from tests.storage.conftest import QUICK

PART = st.text(st.sampled_from(["a", "b", "-", ".", "0", "!", "é", "😀", "\uffff"]), min_size=1, max_size=3).filter(
    lambda part: part not in (".", "..")
)
KEYS = st.sets(st.lists(PART, min_size=1, max_size=4).map("/".join), max_size=25)
KNOWN = {"a", "a.b", "a/b", "a-b/c", "a/b/c", "a0", "é/ö", "😀/a", "\uffff/a"}


class FlatFileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec ships no types
    """Keys in one flat space, as buckets have them: `a` and `a/b` may both be there."""

    protocol = "flat"
    cachable = False
    keys: frozenset[str] = frozenset()
    shows_itself = False
    """Whether a folder is in its own listing, as one with a marker or with names that go on with `/` is with gcsfs."""
    hides_namesakes = False
    """Whether an object hides the folder of its name, as with adlfs."""
    listed: list[str] = []  # noqa: RUF012 - what tests look at
    fails: Iterator[int] | None = None
    """Whose multiples of four are listings that fail."""

    def ls(self, path: str, detail: bool = True, **options: object) -> list[dict[str, Any]]:
        """Objects and folders right below, in no useful order."""
        folder = self._strip_protocol(path).rstrip("/") + "/"
        type(self).listed.append(folder)
        if self.fails is not None and next(self.fails) % 4 == 0:
            raise ConnectionResetError
        if self.hides_namesakes and folder[:-1] in self.keys:
            return [_info(folder[:-1])]
        names = {folder + key[len(folder) :].partition("/")[0] for key in self.keys if key.startswith(folder)}
        folders = {name for name in names if any(key.startswith(name + "/") for key in self.keys)}
        found = [_info(name) for name in names if name in self.keys]
        found += [_info(name.rstrip("/"), "directory") for name in folders]
        found += [_info(folder[:-1], "directory")] * self.shows_itself
        if not found:
            raise FileNotFoundError(path)
        return sorted(found, key=lambda info: str(info["name"])[::-1])

    def find(self, path: str, detail: bool = False, prefix: str = "", **options: object) -> dict[str, dict[str, Any]]:
        """Objects below, by their whole keys."""
        start = self._strip_protocol(path).rstrip("/") + "/" + prefix
        return {key: _info(key) for key in self.keys if key.startswith(start)}


def _info(name: str, kind: str = "file") -> dict[str, Any]:
    return {"name": name, "type": kind, "size": None if kind == "directory" else len(name), "etag": f"of {name}"}


def opened(monkeypatch: pytest.MonkeyPatch, keys: set[str], *, retry: RetryConfig = QUICK, **traits: object) -> Store:
    monkeypatch.setattr(FlatFileSystem, "keys", frozenset(f"bucket/{key}" for key in keys))
    monkeypatch.setattr(FlatFileSystem, "listed", [])
    for name, value in traits.items():
        monkeypatch.setattr(FlatFileSystem, name, value)
    fsspec.register_implementation("flat", FlatFileSystem, clobber=True)
    return Store.open("flat://bucket", retry=retry)


def paths(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [entry.path for entry in store.list(prefix, after=after)]


@given(keys=KEYS, asked=st.data(), shows=st.booleans(), hides=st.booleans())
def test_equals_a_sorted_find(keys: set[str], asked: st.DataObject, shows: bool, hides: bool) -> None:
    keys = keys | KNOWN
    with pytest.MonkeyPatch.context() as monkeypatch:
        store = opened(monkeypatch, keys, shows_itself=shows, hides_namesakes=hides)
        found = sorted(keys, key=path_order)
        assert paths(store) == found
        of_keys = st.sampled_from(found).flatmap(lambda key: st.integers(0, len(key)).map(lambda end: key[:end]))
        prefix, after = asked.draw(of_keys), asked.draw(of_keys)
        wanted = [key for key in found if key.startswith(prefix) and path_order(key) > path_order(after)]
        assert paths(store, prefix, after) == wanted


def test_names_that_go_on_with_another_slash_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"a//b", "a//b/c", "a/b", "a-", "/x", "z///y"}
    store = opened(monkeypatch, keys, shows_itself=True)
    assert paths(store) == sorted(keys, key=path_order)
    assert paths(store, "a//") == ["a//b", "a//b/c"]
    assert paths(store, "a//b/") == ["a//b/c"]


def test_asks_once_for_a_folder_and_only_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(monkeypatch, {f"{folder}/{name}" for folder in "abc" for name in "xy"})
    FlatFileSystem.listed.clear()
    listing = store.list()
    assert next(listing).path == "a/x"
    assert FlatFileSystem.listed == ["bucket/", "bucket/a/"]
    assert len(list(listing)) == 5
    assert FlatFileSystem.listed == ["bucket/", "bucket/a/", "bucket/b/", "bucket/c/"]
    FlatFileSystem.listed.clear()
    assert paths(store, after="b/x") == ["b/y", "c/x", "c/y"]
    assert FlatFileSystem.listed == ["bucket/", "bucket/b/", "bucket/c/"]


def test_goes_on_behind_what_came_when_a_folder_could_not_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {f"{folder}/{name}" for folder in "abcd" for name in "xy"}
    store = opened(monkeypatch, keys, retry=RetryConfig(attempts=2, first_wait_seconds=0))
    monkeypatch.setattr(FlatFileSystem, "fails", itertools.count())
    assert paths(store) == sorted(keys)


def test_a_store_that_stays_away_ends_the_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(monkeypatch, {"a/x", "b/x"})
    listing = store.list()
    next(listing)
    monkeypatch.setattr(FlatFileSystem, "fails", itertools.repeat(0))
    FlatFileSystem.listed.clear()
    with pytest.raises(Exception, match="flat://bucket/: unreachable"):
        next(listing)
    assert len(FlatFileSystem.listed) == 1 + QUICK.attempts
