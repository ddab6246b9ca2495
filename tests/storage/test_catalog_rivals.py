"""Listings that were overtaken, files that are gone or nobody's: what a catalog has committed stays as it is."""

from collections.abc import Iterator

import pytest

from records.errors import BusyError, ReelscribeError
from records.items import Metadata
from storage.catalog_paths import revision_path, shard_path
from storage.catalog_refresh import refresh
from storage.shard_files import NONE
from storage.sources import SourceItem
from storage.stores import Store
from tests.storage.catalog_model import IDS, contents_of, live_of, opened, run, source_item, titles_of

MOMENTS = [
    (False, None),
    (True, None),
    *((False, write) for write in range(1, 10)),
    *((True, write) for write in range(1, 8)),
]
"""Whether the catalog begins with nothing, and before which of its writes the other listing comes: None, before all."""


@pytest.mark.parametrize(
    ("store_uri", "from_nothing", "moment"),
    [*(("local", *moment) for moment in MOMENTS), *(("s3", *moment) for moment in MOMENTS[::4])],
    indirect=["store_uri"],
)
def test_of_two_listings_at_once_one_commits(store: Store, moment: int | None, from_nothing: bool) -> None:
    before = [("a", (1, "e")), ("b", (1, "e")), ("c", (1, "e"))]
    if not from_nothing:
        run(store, before, [("a", "t"), ("b", "t")], shard_size=2)
    rivals = [("x", (1, "e")), ("a", (2, "e")), ("c", (1, "e")), ("y", (1, "e"))]
    titles = [("a", "u"), ("x", "v"), ("c", "w")]
    committed: list[dict[str, bytes]] = []
    checks = 0

    def rival() -> None:
        run(store, rivals, titles, shard_size=1)
        others = set(opened(store).unused_paths())  # what the overtaken one has on its way goes when it fails
        committed.append({path: data for path, data in contents_of(store).items() if path not in others})

    def check(*, ask: bool = False) -> None:
        nonlocal checks
        checks += 1
        if checks == moment:
            rival()

    def overtaken() -> Iterator[SourceItem]:
        for entry in [("b", (2, "e")), ("a", (1, "e")), ("d", (1, "e")), ("e", (1, "e"))]:
            yield source_item(*entry)
        if moment is None:
            rival()

    edited = [("a", Metadata(title="z")), ("d", Metadata(title="z"))]
    with pytest.raises(BusyError, match="another listing"):
        refresh(store, overtaken(), edited, "mem", 2, lambda shard_id: 0, check=check)
    (files,) = committed
    after = contents_of(store)
    assert {path: after.get(path) for path in files} == files, "what the rival committed is as it was"
    catalog = opened(store)
    assert catalog.revision == (1 if from_nothing else 2)
    assert {key: (item.size_bytes, item.etag) for key, item in live_of(catalog).items()} == dict(rivals)
    assert titles_of(catalog) == dict(titles)
    assert run(store, rivals, titles).unchanged == len(rivals)
    unused = set(catalog.unused_paths())
    assert after.keys() - files.keys() <= unused
    newer = {path for path in after.keys() - files.keys() if f"/0000000{catalog.revision}." in path}
    assert moment is not None or not newer


def test_a_listing_that_lost_its_lease_writes_nothing(store: Store) -> None:
    run(store, [("a", (1, "e"))], None)
    before = contents_of(store)

    def lost(*, ask: bool = False) -> None:
        raise BusyError("run r lost its lease")

    with pytest.raises(BusyError, match="lost its lease"):
        refresh(store, [source_item("b", (1, "e"))], None, "mem", 3, lambda shard_id: 0, check=lost)
    assert contents_of(store) == before


def test_the_last_look_at_the_lease_asks_the_store(store: Store) -> None:
    asked: list[bool] = []

    def lost_at_last(*, ask: bool = False) -> None:
        asked.append(ask)
        if ask:
            raise BusyError("run r lost its lease")

    with pytest.raises(BusyError, match="lost its lease"):
        refresh(store, [source_item("b", (1, "e"))], None, "mem", 3, lambda shard_id: 0, check=lost_at_last)
    assert asked == [False] * (len(asked) - 1) + [True]
    assert contents_of(store) == {}


def test_a_catalog_whose_index_is_gone_lists_nothing_as_new(store: Store) -> None:
    run(store, [("a", (1, "e"))], None)
    folder = opened(store).index_folder
    store.delete([entry.path for entry in store.list(folder)])
    before = contents_of(store)
    with pytest.raises(ReelscribeError, match="the catalog's index of its items is gone: restore it"):
        run(store, [("a", (1, "e"))], None)
    assert contents_of(store) == before


def test_a_catalog_of_no_items_has_no_index_and_grows(store: Store) -> None:
    run(store, [], None)
    assert run(store, [("a", (1, "e"))], None).new == 1


def test_a_catalog_from_before_attempts_is_read_and_goes_on(store: Store) -> None:
    listing = [(video_id, (1, "e")) for video_id in IDS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.catalog_writer.new_attempt", lambda: NONE)
        run(store, listing, [("a", "t")])
        run(store, listing[1:], None)
    assert all(len(path.split(".")) <= 3 for path in contents_of(store))
    old = opened(store)
    assert live_of(old).keys() == set(IDS) - {"a"}
    change = run(store, listing, [("a", "u"), ("e", "v")])
    assert (change.returned, change.unchanged, change.metadata_changed) == (1, len(IDS) - 1, 1)
    catalog = opened(store)
    store.delete(list(catalog.unused_paths()))
    assert live_of(catalog).keys() == set(IDS)
    assert titles_of(catalog) == {"a": "u", "e": "v"}


def test_unused_paths_are_what_the_newest_revision_does_not_need(store: Store) -> None:
    run(store, [("a", (1, "e")), ("b", (1, "e"))], [("a", "t")])
    run(store, [("a", (2, "e")), ("b", (1, "e"))], [("a", "t"), ("b", "t")])
    run(store, [("a", (2, "e"))], [("a", "u")])
    store.create(shard_path(77), b"left by a killed listing")
    store.create(shard_path(0, 77), b"left by a listing that was overtaken")
    foreign = [
        "catalog/.nfs0001",
        "catalog/shards/.nfs0001",
        "catalog/notes/a.txt",
        "catalog/index/.nfs0001",
        "catalog/revisions/mine.json",
    ]
    for path in foreign:
        store.create(path, b"not ours")
    catalog = opened(store)
    live, names, removed = live_of(catalog), titles_of(catalog), catalog.removed("00000000")
    unused = list(catalog.unused_paths())
    assert {shard_path(77), shard_path(0, 77), revision_path(1)} <= set(unused)
    assert not set(foreign) & set(unused)
    store.delete(unused)
    catalog = opened(store)
    assert list(catalog.unused_paths()) == []
    assert (live_of(catalog), titles_of(catalog), catalog.removed("00000000")) == (live, names, removed)
    assert run(store, [("a", (2, "e"))], [("a", "u")]).unchanged == 1


def test_unused_paths_are_not_told_of_a_catalog_that_has_grown(store: Store) -> None:
    run(store, [("a", (1, "e"))], None)
    stale = opened(store)
    run(store, [("a", (2, "e"))], None)
    with pytest.raises(BusyError, match="newer revision"):
        list(stale.unused_paths())
