"""A night that changes every shard a little: what is read of them is asked for side by side."""

import threading
from collections.abc import Callable

import pytest

from records.items import Metadata
from storage.catalog import Catalog
from storage.catalog_refresh import refresh
from storage.source_items import SourceItem
from storage.stores import Store

SHARDS = 8
ITEMS = [f"{number:02d}" for number in range(2 * SHARDS)]


def night(number: int, ids: list[str]) -> list[SourceItem]:
    return [
        SourceItem(
            video_id=one,
            uri=f"https://web/{one}.mp4?sig=night{number}&se=1",
            size_bytes=1,
            etag="e",
            metadata=Metadata(title=one, extra={"views": str(number)}),
        )
        for one in ids
    ]


def refreshed(store: Store, number: int, ids: list[str]) -> None:
    refresh(store, iter(night(number, ids)), None, "https://web", 2, lambda shard_id: number)


@pytest.mark.parametrize(
    ("kind", "second", "third"),
    [
        ("locations", ITEMS, ITEMS),
        ("metadata", ITEMS, ITEMS),
        ("removed", ITEMS[::2], []),
    ],
)
def test_what_shards_had_before_is_read_side_by_side(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: str, second: list[str], third: list[str]
) -> None:
    refreshed(store, 1, [*ITEMS, "zz"])
    refreshed(store, 2, [*second, "zz"])
    together = threading.Barrier(SHARDS)
    read: Callable[[Store, str], bytes] = Store.read_bytes

    def waits_for_the_others(of: Store, path: str) -> bytes:
        if path.startswith(f"catalog/{kind}/") and not path.startswith(f"catalog/{kind}/{SHARDS:08d}"):
            together.wait(timeout=10)
        return read(of, path)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "read_bytes", waits_for_the_others)
        refreshed(store, 3, [*third, "zz"])
    catalog = Catalog.open(store)
    assert catalog is not None
    assert catalog.item_count == len(third) + 1
    for number in range(SHARDS):
        found = catalog.newest_metadata(f"{number:08d}")
        gone = catalog.removed(f"{number:08d}")
        live = [key for key in found if key not in gone]
        assert {found[key].extra["views"] for key in live} == ({"3"} if third else set())
