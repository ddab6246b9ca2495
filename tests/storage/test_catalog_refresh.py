"""A catalog after any history of listings equals what a dictionary says, whatever its size, wherever it was killed."""

import random
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.errors import BusyError, UserError
from records.items import CatalogItem, Metadata
from storage.catalog import Catalog, encode_revision, revision_path, shard_path
from storage.catalog_refresh import CatalogChange, refresh
from storage.sources import SourceItem
from storage.stores import Store

IDS = ["a", "b", "c/d", "ä", "0", "00", "x" * 40, "e", "f", "g", "h", "i"]

contents = st.tuples(st.integers(0, 3), st.sampled_from(["e1", "e2"]))
listings = st.lists(st.tuples(st.sampled_from(IDS), contents), max_size=20)
titles = st.none() | st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(["", "t1", "t2"])), max_size=12)
histories = st.lists(st.tuples(listings, titles), min_size=1, max_size=5)


def source_item(video_id: str, content: tuple[int, str]) -> SourceItem:
    return SourceItem(video_id=video_id, uri=f"mem/{video_id}.mp4", size_bytes=content[0], etag=content[1])


@dataclass
class Model:
    """The catalog as a dictionary."""

    live: dict[str, tuple[int, tuple[int, str]]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    order: list[tuple[str, int]] = field(default_factory=list)

    def apply(self, listing: list[tuple[str, tuple[int, str]]], table: list[tuple[str, str]] | None) -> None:
        first: dict[str, tuple[int, str]] = {}
        for video_id, content in listing:
            first.setdefault(video_id, content)
        for video_id in self.live.keys() - first.keys():
            del self.live[video_id]
            self.metadata.pop(video_id, None)
        for video_id, content in first.items():
            if video_id not in self.live or self.live[video_id][1] != content:
                self.versions[video_id] = self.versions.get(video_id, 0) + 1
                self.live[video_id] = (self.versions[video_id], content)
                self.order.append((video_id, self.versions[video_id]))
        if table is not None:
            given: dict[str, str] = {}
            for video_id, title in table:
                given.setdefault(video_id, title)
            self.metadata = {video_id: given[video_id] for video_id in self.live if given.get(video_id)}


def live_of(catalog: Catalog) -> dict[str, CatalogItem]:
    found = {}
    for shard_id in catalog.shard_ids():
        removed = catalog.removed(shard_id)
        for item in catalog.read_shard(shard_id):
            if item.key not in removed:
                assert item.video_id not in found
                found[item.video_id] = item
    return found


def titles_of(catalog: Catalog) -> dict[str, str]:
    live = {item.key for item in live_of(catalog).values()}
    return {
        video_id: metadata.title
        for shard_id, generation in catalog.metadata_generations()
        for (video_id, version), metadata in catalog.read_metadata(shard_id, generation).items()
        if (video_id, version) in live
    }


def run(
    store: Store, listing: list[tuple[str, tuple[int, str]]], table: list[tuple[str, str]] | None, shard_size: int = 3
) -> CatalogChange:
    return refresh(
        store,
        (source_item(video_id, content) for video_id, content in listing),
        None if table is None else ((video_id, Metadata(title=title)) for video_id, title in table),
        "mem",
        shard_size,
        lambda shard_id: 0,
    )


def opened(store: Store) -> Catalog:
    catalog = Catalog.open(store)
    assert catalog is not None
    return catalog


@settings(max_examples=40, deadline=None)
@given(history=histories, shard_size=st.integers(1, 4))
def test_any_history_equals_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[list[tuple[str, tuple[int, str]]], None]],
    shard_size: int,
) -> None:
    store = Store.open(str(tmp_path_factory.mktemp("out")))
    model = Model()
    for listing, table in history:
        before = dict(model.live)
        model.apply(listing, table)
        change = run(store, listing, table, shard_size)
        catalog = opened(store)
        found = live_of(catalog)
        assert {key: (item.version, (item.size_bytes, item.etag)) for key, item in found.items()} == model.live
        assert titles_of(catalog) == model.metadata
        assert catalog.item_count == len(model.live)
        items = [item.key for shard_id in catalog.shard_ids() for item in catalog.read_shard(shard_id)]
        assert items == model.order, "append-only, in listing order"
        assert all(1 <= len(catalog.read_shard(shard_id)) <= shard_size for shard_id in catalog.shard_ids())
        assert change.duplicates == len(listing) - len({video_id for video_id, _ in listing})
        assert change.deleted == len(before.keys() - model.live.keys())
        assert change.new == len(model.live.keys() - before.keys())
        assert change.changed == sum(model.live[key] != before[key] for key in model.live.keys() & before.keys())
        assert change.unchanged == sum(model.live[key] == before[key] for key in model.live.keys() & before.keys())


@settings(max_examples=15, deadline=None)
@given(history=histories, limit=st.integers(1, 7))
def test_what_does_not_fit_in_memory_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[list[tuple[str, tuple[int, str]]], None]], limit: int
) -> None:
    plain = Store.open(str(tmp_path_factory.mktemp("plain")))
    spilled = Store.open(str(tmp_path_factory.mktemp("spilled")))
    for listing, table in history:
        run(plain, listing, table)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("storage.catalog_join.ORDINALS_A_PART", limit)
            patch.setattr("storage.catalog_join.SHARDS_A_PART", 2)
            patch.setattr("storage.spill.BUFFERED_RECORDS", limit)
            run(spilled, listing, table)
    one, other = contents_of(plain), contents_of(spilled)
    assert one == other


def contents_of(store: Store) -> dict[str, bytes]:
    return {entry.path: store.read_bytes(entry.path) for entry in store.list()}


def test_an_identical_listing_writes_nothing(store: Store) -> None:
    listing = [(video_id, (1, "e")) for video_id in IDS]
    run(store, listing, [("a", "t")])
    before = contents_of(store)
    change = run(store, list(reversed(listing)), [("a", "t")])
    assert (change.revision, change.unchanged, change.new) == (1, len(IDS), 0)
    assert contents_of(store) == before
    assert run(store, listing, None).metadata_changed == 0
    assert contents_of(store) == before


def test_an_edited_title_writes_its_shards_metadata_alone(store: Store) -> None:
    listing = [(f"{number:02d}", (1, "e")) for number in range(9)]
    table = [(video_id, f"title {video_id}") for video_id, _ in listing]
    run(store, listing, table)
    before = contents_of(store)
    asked: list[str] = []

    def next_generation(shard_id: str) -> int:
        asked.append(shard_id)
        return 7

    edited = [(video_id, Metadata(title="new" if video_id == "04" else title)) for video_id, title in table]
    change = refresh(store, (source_item(*entry) for entry in listing), edited, "mem", 3, next_generation)
    assert (change.metadata_changed, change.unchanged, change.revision) == (1, 9, 2)
    assert asked == ["00000001"]
    catalog = opened(store)
    assert list(catalog.metadata_generations()) == [("00000000", 0), ("00000001", 7), ("00000002", 0)]
    assert catalog.read_metadata("00000001", 7)["04", 1].title == "new"
    assert catalog.read_metadata("00000001", 7)["05", 1].title == "title 05"
    after = contents_of(store)
    written = {path for path in after if path not in before and not path.startswith(("catalog/index/", "catalog/rev"))}
    assert written == {"catalog/metadata/00000001.7.parquet"}
    assert all(after[path] == before[path] for path in before if path in after)


def test_new_content_keeps_its_metadata_where_no_table_is_given(store: Store) -> None:
    extra = Metadata(title="t", extra={"likes": "3"})
    refresh(store, [source_item("a", (1, "e"))], [("a", extra)], "mem", 3, lambda shard_id: 0)
    run(store, [("a", (2, "e"))], None)
    catalog = opened(store)
    assert list(catalog.metadata_generations()) == [("00000000", 0), ("00000001", 0)]
    assert catalog.read_metadata("00000001", 0) == {("a", 2): extra}
    assert catalog.removed("00000000") == {("a", 1): "superseded"}


def test_an_id_that_comes_back_gets_a_version_never_given_before(store: Store) -> None:
    for listing in ([("a", (1, "e")), ("b", (1, "e"))], [("b", (1, "e"))], [("a", (1, "e")), ("b", (1, "e"))]):
        run(store, listing, None)
    catalog = opened(store)
    assert live_of(catalog)["a"].version == 2
    assert catalog.removed("00000000") == {("a", 1): "deleted"}


def test_duplicates_are_counted_and_named(store: Store) -> None:
    listing = [(video_id, (1, "first")) for video_id in IDS] + [(video_id, (2, "second")) for video_id in IDS]
    change = run(store, listing, None)
    assert (change.new, change.duplicates, len(change.duplicate_ids)) == (len(IDS), len(IDS), 5)
    assert {item.etag for item in live_of(opened(store)).values()} == {"first"}


def test_metadata_without_an_item_is_counted(store: Store) -> None:
    change = run(store, [("a", (1, "e"))], [("a", "t"), ("a", "again"), ("nobody", "t")])
    assert change.metadata_unmatched == 2
    assert titles_of(opened(store)) == {"a": "t"}


def test_refuses_another_source_and_a_bad_size(store: Store) -> None:
    run(store, [("a", (1, "e"))], None)
    with pytest.raises(UserError, match="its catalog lists mem, not elsewhere"):
        refresh(store, [], None, "elsewhere", 3, lambda shard_id: 0)
    with pytest.raises(UserError, match="shard_size"):
        refresh(store, [], None, "mem", 0, lambda shard_id: 0)


def test_a_listing_that_fails_changes_nothing(store: Store) -> None:
    run(store, [("a", (1, "e"))], None)
    before = contents_of(store)

    def broken() -> Iterator[SourceItem]:
        yield source_item("b", (1, "e"))
        raise UserError("the bucket went away")

    with pytest.raises(UserError, match="went away"):
        refresh(store, broken(), None, "mem", 3, lambda shard_id: 0)
    assert contents_of(store) == before


def test_of_two_listings_at_once_one_commits(store: Store) -> None:
    run(store, [("a", (1, "e"))], None)
    revision = opened(store).change

    def overtaken() -> Iterator[SourceItem]:
        yield source_item("a", (1, "e"))
        yield source_item("b", (1, "e"))
        store.create(revision_path(2), encode_revision(revision))

    with pytest.raises(BusyError, match="another listing"):
        refresh(store, overtaken(), None, "mem", 3, lambda shard_id: 0)


def test_unused_paths_are_what_the_newest_revision_does_not_need(store: Store) -> None:
    run(store, [("a", (1, "e")), ("b", (1, "e"))], [("a", "t")])
    run(store, [("a", (2, "e")), ("b", (1, "e"))], [("a", "t"), ("b", "t")])
    run(store, [("a", (2, "e"))], [("a", "u")])
    store.create(shard_path(77), b"left by a killed listing")
    catalog = opened(store)
    live, names, removed = live_of(catalog), titles_of(catalog), catalog.removed("00000000")
    unused = list(catalog.unused_paths())
    assert shard_path(77) in unused
    assert revision_path(1) in unused
    store.delete(unused)
    catalog = opened(store)
    assert list(catalog.unused_paths()) == []
    assert (live_of(catalog), titles_of(catalog), catalog.removed("00000000")) == (live, names, removed)
    assert run(store, [("a", (2, "e"))], [("a", "u")]).unchanged == 1


def test_no_catalog_yet(store: Store) -> None:
    assert Catalog.open(store) is None


REFRESH = """
import sys
from storage.stores import Store
from tests.storage.test_catalog_refresh import big_listing, big_table
from storage.catalog_refresh import refresh
from records.items import Metadata
store = Store.open(sys.argv[1])
writes = 0
create = store._backend.create
def counted(path, data):
    global writes
    if writes == int(sys.argv[3]):
        print("reached", flush=True)
        sys.stdin.read()
    writes += 1
    return create(path, data)
store._backend.create = counted
refresh(store, big_listing(int(sys.argv[2])), big_table(int(sys.argv[2])), "mem", 5, lambda shard_id: 0)
print("done", flush=True)
"""


def big_listing(turn: int) -> list[SourceItem]:
    chosen = random.Random(turn)
    return [source_item(f"{number:03d}", (chosen.randrange(2), "e")) for number in range(60) if chosen.random() < 0.8]


def big_table(turn: int) -> list[tuple[str, Metadata]]:
    chosen = random.Random(turn + 100)
    return [(f"{number:03d}", Metadata(title=chosen.choice(["", "x", "y"]))) for number in range(60)]


def test_a_refresh_killed_at_any_write_is_as_if_it_never_ran(store: Store, store_uri: str, tmp_path: Path) -> None:
    calm = Store.open(str(tmp_path / "calm"))
    chosen = random.Random(5)
    for turn in range(3):
        for wanted in (2 * turn, 100 + turn):  # another listing is killed first, then the wanted one goes through
            command = [sys.executable, "-c", REFRESH, store_uri, str(wanted), str(chosen.randrange(1, 20))]
            if wanted < 100:
                killed = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
                )
                assert killed.stdin is not None
                assert killed.stdout is not None
                assert killed.stdout.readline() == b"reached\n"
                killed.send_signal(signal.SIGKILL)
                killed.wait()
                killed.stdin.close()
                killed.stdout.close()
            else:
                for target in (store, calm):
                    refresh(target, big_listing(wanted), big_table(wanted), "mem", 5, lambda shard_id: 0)
        disturbed, undisturbed = opened(store), opened(calm)
        assert disturbed.change == undisturbed.change
        assert live_of(disturbed) == live_of(undisturbed)
        assert titles_of(disturbed) == titles_of(undisturbed)
        store.delete(list(disturbed.unused_paths()))
        calm.delete(list(undisturbed.unused_paths()))
        assert contents_of(store) == contents_of(calm)


def test_a_refresh_takes_less_memory_than_its_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.spill.BUFFERED_RECORDS", 500)
    monkeypatch.setattr("storage.catalog_join.ORDINALS_A_PART", 256)
    monkeypatch.setattr("storage.catalog_index.FILE_ROWS", 500)
    monkeypatch.setattr("storage.catalog_index.PARTITIONS", 256)
    monkeypatch.setattr("storage.catalog_join.PARTITIONS", 256)
    store = Store.open(str(tmp_path))

    def listing(size: int) -> Iterator[SourceItem]:
        return (source_item(f"clips/{number:09d}", (size, "e")) for number in range(10_000))

    def change_every_item(size: int) -> CatalogChange:
        return refresh(store, listing(size), None, "mem", 128, lambda shard_id: 0)

    def peak(work: Callable[[int], object], size: int) -> int:
        tracemalloc.start()
        work(size)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    run(store, [("first", (1, "e"))], None)  # what is imported on first use is not the catalog's
    both = [peak(change_every_item, size) for size in (1, 2)]
    assert min(both) < peak(lambda size: list(listing(size)), 1) / 2
