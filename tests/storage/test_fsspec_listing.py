"""A listing over fsspec equals `find`, sorted by the bytes of whole paths, one folder at a time."""

import contextlib
import itertools
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

import fsspec
import pytest
from fsspec.asyn import get_loop
from fsspec.spec import AbstractFileSystem
from hypothesis import given
from hypothesis import strategies as st

from records.items import CatalogItem
from storage.backends import path_order
from storage.faults import RetryConfig
from storage.fetch import FetchConfig, Fetcher
from storage.stores import Store
from tests.storage.conftest import QUICK

PART = st.text(st.sampled_from(["a", "b", "-", ".", "0", "!", "é", "😀", "\uffff"]), min_size=1, max_size=3).filter(
    lambda part: part not in (".", "..")
)
KEYS = st.sets(st.lists(PART, min_size=1, max_size=4).map("/".join), max_size=25)
EMPTY_PARTS = {"a//b", "/x", "z///y", "a//b/c"}
KNOWN = {"a", "a.b", "a/b", "a-b/c", "a/b/c", "a0", "é/ö", "😀/a", "\uffff/a"}


class FlatFileSystem(AbstractFileSystem):  # type: ignore[misc] # fsspec ships no types
    """Keys in one flat space, as buckets have them: `a` and `a/b` may both be there."""

    protocol = "flat"
    cachable = False
    keys: frozenset[str] = frozenset()
    shows_itself = False
    """Whether a folder is in its own listing, as one with a marker or with names that go on with `/` is with gcsfs."""
    listed: list[str] = []  # noqa: RUF012 - what tests look at
    fails: Iterator[int] | None = None
    """Whose multiples of four are listings that fail."""

    def ls(self, path: str, detail: bool = True, **options: object) -> list[dict[str, Any]]:
        """Objects and folders right below, in no useful order."""
        folder = self._strip_protocol(path).rstrip("/") + "/"
        type(self).listed.append(folder)
        if self.fails is not None and next(self.fails) % 4 == 0:
            raise ConnectionResetError
        names = {folder + key[len(folder) :].partition("/")[0] for key in self.keys if key.startswith(folder)}
        folders = {name for name in names if any(key.startswith(name + "/") for key in self.keys)}
        found = [_info(name) for name in names if name in self.keys]
        found += [_info(name.rstrip("/"), "directory") for name in folders]
        found += [_info(folder[:-1], "directory")] * self.shows_itself
        if not found:
            raise FileNotFoundError(path)
        return sorted(found, key=lambda info: str(info["name"])[::-1])

    def info(self, path: str, **options: object) -> dict[str, Any]:
        """Of an object."""
        key = self._strip_protocol(path)
        if key not in self.keys:
            raise FileNotFoundError(path)
        return _info(key)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        """Whose content is its key."""
        key = self._strip_protocol(path)
        assert key in self.keys
        return str(key).encode()[start:end]

    def find(self, path: str, detail: bool = False, prefix: str = "", **options: object) -> dict[str, dict[str, Any]]:
        """Objects below, by their whole keys."""
        start = self._strip_protocol(path).rstrip("/") + "/" + prefix
        return {key: _info(key) for key in self.keys if key.startswith(start)}


def _info(name: str, kind: str = "file") -> dict[str, Any]:
    return {"name": name, "type": kind, "size": None if kind == "directory" else len(name), "etag": f"of {name}"}


def opened(
    monkeypatch: pytest.MonkeyPatch,
    keys: set[str],
    *,
    retry: RetryConfig = QUICK,
    scheme: str = "flat",
    folder: str = "",
    **traits: Any,  # noqa: ANN401 - of the file system's class
) -> Store:
    monkeypatch.setattr(FlatFileSystem, "keys", frozenset(f"bucket/{key}" for key in keys))
    monkeypatch.setattr(FlatFileSystem, "listed", [])
    for name, value in traits.items():
        monkeypatch.setattr(FlatFileSystem, name, value)
    for kind in (FlatFileSystem, FlatAzure):
        fsspec.register_implementation(str(kind.protocol), kind, clobber=True)
    return Store.open(f"{scheme}://bucket{folder}", retry=retry)


def paths(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [entry.path for entry in store.list(prefix, after=after)]


class FlatAzure(FlatFileSystem):
    """The same behind a client like Azure's, which adlfs holds; its own `ls` hides names with an empty part."""

    protocol = "flatazure"
    loop = get_loop()

    def ls(self, path: str, detail: bool = True, **options: object) -> NoReturn:
        """Must not be asked."""
        raise AssertionError("adlfs's ls does not show all")

    @property
    def service_client(self) -> "FlatAzure":
        """Its own client."""
        return self

    @contextlib.asynccontextmanager
    async def get_container_client(self, container: str) -> AsyncIterator["FlatAzure"]:
        """Whose keys all lie in one container."""
        assert container == "bucket"
        yield self

    async def walk_blobs(
        self, *, name_starts_with: str, include: list[str], delimiter: str
    ) -> AsyncIterator[types.SimpleNamespace]:
        """Blobs below a prefix up to the delimiter, which ends the names of what stands for several."""
        type(self).listed.append(name_starts_with)
        keys = sorted(key.partition("/")[2] for key in self.keys)
        cuts = {
            name_starts_with + key[len(name_starts_with) :].partition(delimiter)[0] + delimiter
            if delimiter in key[len(name_starts_with) :]
            else key
            for key in keys
            if key.startswith(name_starts_with)
        }
        for name in sorted(cuts):
            yield types.SimpleNamespace(
                name=name, size=len(name), etag=f"of {name}", last_modified=None, metadata=self.marks.get(name)
            )

    marks: dict[str, dict[str, str]] = {}  # noqa: RUF012 - what a test sets
    """Name to metadata, for a folder of Data Lake, which is a blob."""


@given(keys=KEYS, asked=st.data(), shows=st.booleans())
def test_equals_a_sorted_find(keys: set[str], asked: st.DataObject, shows: bool) -> None:
    check_against_find(keys | KNOWN, asked, "flat", shows_itself=shows)


@given(keys=KEYS, asked=st.data())
def test_equals_a_sorted_find_on_azure(keys: set[str], asked: st.DataObject) -> None:
    check_against_find(keys | KNOWN | EMPTY_PARTS, asked, "flatazure")


def check_against_find(keys: set[str], asked: st.DataObject, scheme: str, **traits: Any) -> None:  # noqa: ANN401 - as above
    with pytest.MonkeyPatch.context() as monkeypatch:
        store = opened(monkeypatch, keys, scheme=scheme, **traits)
        found = sorted(keys, key=path_order)
        assert paths(store) == found
        of_keys = st.sampled_from(found).flatmap(lambda key: st.integers(0, len(key)).map(lambda end: key[:end]))
        prefix, after = asked.draw(of_keys), asked.draw(of_keys)
        wanted = [key for key in found if key.startswith(prefix) and path_order(key) > path_order(after)]
        assert paths(store, prefix, after) == wanted


def test_a_folder_of_azure_costs_one_request_and_markers_are_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"in/a//b.mp4", "in/a/b.mp4", "in/a/", "in/lake", "in/lake/c.mp4", "in/x"}
    monkeypatch.setattr(FlatAzure, "marks", {"in/lake": {"hdi_isfolder": "true"}})
    store = opened(monkeypatch, keys, scheme="flatazure", folder="/in")
    FlatFileSystem.listed.clear()
    assert paths(store) == ["a//b.mp4", "a/b.mp4", "lake/c.mp4", "x"]
    assert FlatFileSystem.listed == ["in/", "in/a/", "in/a//", "in/lake/"]


def test_an_item_of_azure_is_fetched_by_its_name_with_an_empty_part(monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, {"a//b.mp4", "a/b.mp4"}, scheme="flatazure")
    item = CatalogItem(video_id="a", version=1, uri="flatazure://bucket/a//b.mp4", size_bytes=None, etag="")
    with Fetcher(FetchConfig(retry=QUICK))(item) as media:
        assert media.read_bytes() == b"bucket/a//b.mp4"


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
