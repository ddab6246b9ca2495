"""An object that is overwritten while it is read over fsspec is `changed`, also by one of the same length."""

import uuid
from dataclasses import replace

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.fetch import FetchConfig, Fetcher
from storage.stores import Store
from tests.storage.conftest import QUICK

CONFIG = FetchConfig(retry=QUICK)
DATA, OTHER = b"0123456789", b"abcdefghij"


class OverwrittenFileSystem(MemoryFileSystem):  # type: ignore[misc] # fsspec ships no types
    """Another object of the same length takes the place of the one that was looked at, before any byte is read."""

    protocol = "overwritten"
    store: dict[str, object] = {}  # noqa: RUF012 - as in the class it comes from
    pseudo_dirs = [""]  # noqa: RUF012 - likewise
    cachable = False
    before_parts = 0
    """How many reads see the first object; negative for all."""
    looks = 0

    def info(self, path: str, **options: object) -> dict[str, object]:
        """Counts."""
        type(self).looks += 1
        found: dict[str, object] = super().info(path, **options)
        return found

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        """Overwrites, then reads."""
        if self.before_parts == 0:
            self.pipe_file(path, OTHER)
        type(self).before_parts -= 1
        opened: bytes = self.open(path).read()
        return opened[start:end]


@pytest.fixture
def item(monkeypatch: pytest.MonkeyPatch) -> CatalogItem:
    """In the catalog as it was before it is overwritten."""
    fsspec.register_implementation("overwritten", OverwrittenFileSystem, clobber=True)
    store = Store.open(f"overwritten://{uuid.uuid4().hex}")
    monkeypatch.setattr(OverwrittenFileSystem, "before_parts", -1)
    store.create("a.mp4", DATA)
    (entry,) = store.list()
    assert entry.etag
    monkeypatch.setattr(OverwrittenFileSystem, "looks", 0)
    return CatalogItem(video_id="a", version=1, uri=store.uri("a.mp4"), size_bytes=len(DATA), etag=entry.etag)


def read(item: CatalogItem, config: FetchConfig = CONFIG) -> bytes:
    with Fetcher(config)(item) as media:
        return media.read_bytes()


def changed(item: CatalogItem, config: FetchConfig = CONFIG) -> bool:
    with pytest.raises(BadItemError) as caught:
        read(item, config)
    return caught.value.kind is FailureKind.CHANGED


def test_another_object_of_the_same_length_is_no_item(item: CatalogItem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OverwrittenFileSystem, "before_parts", 0)
    assert changed(item)


def test_nor_is_a_range_of_it(item: CatalogItem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OverwrittenFileSystem, "before_parts", 0)
    assert changed(replace(item, byte_offset=2, size_bytes=3))


@pytest.mark.parametrize("etag", ["", None])
def test_nor_are_parts_of_two(item: CatalogItem, monkeypatch: pytest.MonkeyPatch, etag: str | None) -> None:
    monkeypatch.setattr(OverwrittenFileSystem, "before_parts", 1)
    assert changed(item if etag is None else replace(item, etag=etag), replace(CONFIG, part_bytes=4))


def test_a_second_look_is_one_request_where_it_tells_something(item: CatalogItem) -> None:
    assert read(item) == DATA
    assert OverwrittenFileSystem.looks == 2
    assert read(replace(item, etag="")) == DATA
    assert OverwrittenFileSystem.looks == 3


def test_an_object_that_ends_before_its_range_is_changed(item: CatalogItem, monkeypatch: pytest.MonkeyPatch) -> None:
    class OutOfRangeError(Exception):
        status_code = 416

    OutOfRangeError.__module__ = "azure.core.exceptions"

    def refuse(self: object, path: str, **options: object) -> bytes:
        raise OutOfRangeError

    monkeypatch.setattr(OverwrittenFileSystem, "cat_file", refuse)
    assert changed(replace(item, byte_offset=2, size_bytes=3))


class AccountFileSystem(MemoryFileSystem):  # type: ignore[misc] # fsspec ships no types
    """Its URIs name an account beside the container, as `abfss://container@account.dfs.core.windows.net/` does."""

    protocol = "account"
    cachable = False
    opened: list[str] = []  # noqa: RUF012 - of the class: the reader makes its own objects

    def __init__(self, account_name: str, *, version_aware: bool = False, **options: object) -> None:
        super().__init__(**options)
        assert not version_aware, "names that end in #1 are names"
        self.opened.append(account_name)

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, object]:
        return {"account_name": path.partition("@")[2].partition(".")[0], "version_aware": True}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        container, _, rest = path.removeprefix("account://").partition("@")
        stripped: str = super()._strip_protocol(f"{container}/{rest.partition('/')[2]}" if rest else path)
        return stripped


def test_the_account_that_a_uri_names_is_the_one_that_is_read() -> None:
    fsspec.register_implementation("account", AccountFileSystem, clobber=True)
    AccountFileSystem("mine").pipe_file(f"{(box := uuid.uuid4().hex)}/a.mp4", DATA)
    AccountFileSystem.opened.clear()
    fetcher = Fetcher(CONFIG)
    for account in ("mine", "other", "mine"):
        uri = f"account://{box}@{account}.example/a.mp4"
        with fetcher(CatalogItem(video_id="a", version=1, uri=uri, size_bytes=len(DATA), etag="")) as media:
            assert media.read_bytes() == DATA
    assert AccountFileSystem.opened == ["mine", "other"]
