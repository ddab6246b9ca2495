"""A catalog after any history of listings equals what a dictionary says, whatever fits in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from records.errors import UserError
from records.items import Metadata
from storage.catalog import Catalog
from storage.catalog_refresh import refresh
from storage.sources import SourceItem
from storage.stores import Store
from tests.storage.catalog_model import (
    IDS,
    Model,
    contents_of,
    histories,
    live_of,
    metadata_generations,
    opened,
    run,
    source_item,
    titles_of,
)


@settings(max_examples=20, deadline=None)
@example(history=[([("a", (1, "e1"))], [("a", "t1")]), ([("a", (1, "e1"))], [("a", "")])], shard_size=1)
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
        assert titles_of(catalog) == model.titles
        assert catalog.item_count == len(model.live)
        items = [item.key for shard_id in catalog.shard_ids() for item in catalog.read_shard(shard_id)]
        assert items == model.order, "append-only, in listing order"
        assert all(1 <= len(catalog.read_shard(shard_id)) <= shard_size for shard_id in catalog.shard_ids())
        assert change.left_out.get("repeated_id", 0) == len(listing) - len({video_id for video_id, _ in listing})
        assert change.deleted == len(before.keys() - model.live.keys())
        assert change.new + change.returned == len(model.live.keys() - before.keys())
        counts = [len(catalog.read_shard(one)) - len(catalog.removed(one)) for one in catalog.shard_ids()]
        assert catalog.live_counts().tolist() == counts
        shards = [catalog.read_shard(one) for one in catalog.shard_ids()]
        assert catalog.files.empty().tolist() == [all(item.size_bytes == 0 for item in shard) for shard in shards]
        assert change.changed == sum(model.live[key] != before[key] for key in model.live.keys() & before.keys())
        assert change.unchanged == sum(model.live[key] == before[key] for key in model.live.keys() & before.keys())


def test_shards_of_a_catalog_from_before_are_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("storage.catalog_writer.CatalogWriter._with_bytes", lambda self: None)
        run(store, [("a", (0, "e1"))], None, 1)
    assert opened(store).files.with_bytes is None
    assert opened(store).files.empty().tolist() == [False]
    run(store, [("a", (0, "e1")), ("b", (0, "e1")), ("c/d", (1, "e1"))], None, 1)
    assert opened(store).files.empty().tolist() == [False, True, False]


@settings(max_examples=10, deadline=None)
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
            patch.setattr("storage.catalog_writer.new_attempt", lambda: opened(plain).attempt)
            run(spilled, listing, table)
    one, other = contents_of(plain), contents_of(spilled)
    assert one == other


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
    assert list(metadata_generations(catalog)) == [("00000000", 0), ("00000001", 7), ("00000002", 0)]
    assert catalog.read_metadata("00000001", 7)["04", 1].title == "new"
    assert catalog.read_metadata("00000001", 7)["05", 1].title == "title 05"
    after = contents_of(store)
    written = {path for path in after if path not in before and not path.startswith(("catalog/index/", "catalog/rev"))}
    (path,) = written
    assert path.startswith("catalog/metadata/00000001.7.")
    assert all(after[path] == before[path] for path in before if path in after)


def test_other_columns_make_no_title_stale_and_a_title_that_goes_leaves_its_time(store: Store) -> None:
    listing = [(video_id, (1, "e")) for video_id in ("a", "b")]

    def edit(generation: int, **of: Metadata) -> list[int]:
        refresh(store, (source_item(*one) for one in listing), of.items(), "mem", 3, lambda shard_id: generation)
        return [int(one) for one in opened(store).files.titles]

    assert edit(0, a=Metadata(title="t", extra={"views": "1"})) == [0]
    assert edit(3, a=Metadata(title="t", extra={"views": "2"}), b=Metadata(extra={"views": "9"})) == [0]
    assert edit(5, b=Metadata(title="u", extra={"views": "9"})) == [5]
    assert edit(7, a=Metadata()) == [7]
    catalog = opened(store)
    generation = int(catalog.files.metadata[0])
    assert {row.video_id: (row.title, row.generation) for row in catalog.metadata_rows("00000000", generation)} == {
        "a": ("", 7),
        "b": ("u", 5),
    }


def test_new_content_keeps_its_metadata_where_no_table_is_given(store: Store) -> None:
    extra = Metadata(title="t", extra={"likes": "3"})
    refresh(store, [source_item("a", (1, "e"))], [("a", extra)], "mem", 3, lambda shard_id: 0)
    run(store, [("a", (2, "e"))], None)
    catalog = opened(store)
    assert list(metadata_generations(catalog)) == [("00000000", 0), ("00000001", 0)]
    assert catalog.read_metadata("00000001", 0) == {("a", 2): extra}
    assert catalog.removed("00000000") == {("a", 1): "superseded"}


def test_an_id_that_comes_back_changed_gets_a_version_never_given_before(store: Store) -> None:
    for listing in ([("a", (1, "e")), ("b", (1, "e"))], [("b", (1, "e"))], [("a", (2, "e")), ("b", (1, "e"))]):
        run(store, listing, None)
    catalog = opened(store)
    assert live_of(catalog)["a"].version == 2
    assert catalog.removed("00000000") == {("a", 1): "deleted"}


def test_an_item_that_comes_back_as_it_was_is_live_again_and_its_shard_is_looked_at(store: Store) -> None:
    both = [("a", (1, "e")), ("b", (1, "e"))]
    run(store, both, [("a", "t"), ("b", "u")])
    run(store, both[1:], None)
    change = refresh(store, (source_item(*one) for one in both), None, "mem", 3, lambda shard_id: 5)
    assert (change.returned, change.new, change.changed, change.unchanged) == (1, 0, 0, 1)
    catalog = opened(store)
    assert {item.key for item in live_of(catalog).values()} == {("a", 1), ("b", 1)}
    assert titles_of(catalog) == {"a": "t", "b": "u"}
    assert (catalog.item_count, catalog.shard_count) == (2, 1)
    assert catalog.highest_generations().tolist() == [5]
    assert catalog.files.metadata.tolist() == [0]


def test_duplicates_are_counted_and_named(store: Store) -> None:
    listing = [(video_id, (1, "first")) for video_id in IDS] + [(video_id, (2, "second")) for video_id in IDS]
    change = run(store, listing, None)
    assert (change.new, change.left_out, len(change.left_out_names["repeated_id"])) == (
        len(IDS),
        {"repeated_id": len(IDS)},
        5,
    )
    assert {item.etag for item in live_of(opened(store)).values()} == {"first"}


def test_metadata_without_an_item_is_counted(store: Store) -> None:
    change = run(store, [("a", (1, "e"))], [("a", "t"), ("a", "again"), ("a", "and again"), ("nobody", "t")])
    assert (change.metadata_unmatched, change.metadata_repeated) == (1, 2)
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


def test_no_catalog_yet(store: Store) -> None:
    assert Catalog.open(store) is None


def test_a_first_try_of_a_few_items_is_a_whole_shard(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    listing = [SourceItem(video_id=f"{number:03d}", uri=f"/{number}", size_bytes=1, etag="e") for number in range(25)]
    refresh(store, listing, None, "s", 10, lambda shard_id: 0, 3)
    catalog = Catalog.open(store)
    assert catalog is not None
    sizes = [len(catalog.read_shard(shard_id)) for shard_id in catalog.shard_ids()]
    assert sizes == [3, 10, 10, 2]
