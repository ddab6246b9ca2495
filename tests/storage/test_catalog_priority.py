"""High values of a column go into the first of the new shards, and each shard knows its means."""

import math
import struct
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.errors import UserError
from records.items import Metadata
from storage.catalog import Catalog
from storage.catalog_index import metadata_text
from storage.catalog_priority import PRIORITY_PARTS, number_of, priority_part
from storage.catalog_refresh import refresh
from storage.stores import Store
from tests.storage.catalog_model import live_of, opened, source_item

finite = st.floats(allow_nan=False, allow_infinity=False)


def part_of(value: object) -> int:
    return priority_part(metadata_text(Metadata(title="t", extra={"views": str(value)})), "views")


@given(one=finite, other=finite)
def test_parts_fall_as_values_rise(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert part_of(high) <= part_of(low) < PRIORITY_PARTS
    if low > 0 and high > 1.07 * low and low > 1e-300:
        assert part_of(high) < part_of(low)


@given(bits=st.integers(0, 2**64 - 1))
def test_every_float_has_its_part(bits: int) -> None:
    (value,) = struct.unpack(">d", struct.pack(">Q", bits))
    assert (part_of(value) == PRIORITY_PARTS) == (not math.isfinite(value))


@pytest.mark.parametrize("text", ["", "many", "nan", "inf", "1,5"])
def test_what_is_no_number_comes_last(text: str) -> None:
    assert number_of(text) is None
    assert part_of(text) == PRIORITY_PARTS
    assert part_of("-1e308") < PRIORITY_PARTS


def listed(store: Store, views: dict[str, str], order_by: str | None) -> Catalog:
    table = ((one, Metadata(extra={"views": text, "place": "Ulm"})) for one, text in views.items())
    refresh(store, (source_item(one, (1, "e")) for one in views), table, "mem", 2, lambda shard_id: 9, None, order_by)
    return opened(store)


def test_new_shards_are_cut_by_a_column_and_edits_change_the_means(store: Store) -> None:
    views = {"a": "3", "b": "1000", "c": "", "d": "70", "e": "5.5", "f": "-2"}
    catalog = listed(store, views, "views")
    shards = [[item.video_id for item in catalog.read_shard(one)] for one in catalog.shard_ids()]
    assert shards == [["b", "d"], ["e", "a"], ["f", "c"]]
    assert set(catalog.files.means) == {"views"}
    np.testing.assert_array_equal(catalog.files.means["views"], [535.0, 4.25, -2.0])
    catalog = listed(store, {**views, "f": "", "a": "4.5", "g": "9"}, "views")
    np.testing.assert_array_equal(catalog.files.means["views"], [535.0, 5.0, np.nan, 9.0])
    assert set(live_of(catalog)) == set("abcdefg")


cells = st.sampled_from(["", "1", "2", "300", "many"])


@settings(max_examples=15, deadline=None)
@given(
    history=st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.sampled_from(["e1", "e2"]), cells), min_size=1),
        min_size=2,
        max_size=5,
    ),
    shards_a_part=st.sampled_from([1, 128]),
)
def test_means_are_those_of_the_live_items(history: list[dict[str, tuple[str, str]]], shards_a_part: int) -> None:
    """Deleted ones, superseded ones, some that come back, and edits in the same listing."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.catalog_join.SHARDS_A_PART", shards_a_part)
        store = Store.open(folder)
        for listing in history:
            table = [(one, Metadata(extra={"views": text})) for one, (_, text) in listing.items()]
            items = [source_item(one, (1, etag)) for one, (etag, _) in listing.items()]
            refresh(store, items, table, "mem", 2, lambda shard_id: 0)
            catalog = opened(store)
            for shard_id in catalog.shard_ids():
                metadata, removed = catalog.newest_metadata(shard_id), catalog.removed(shard_id)
                live = [item.key for item in catalog.read_shard(shard_id) if item.key not in removed]
                texts = [metadata[key].extra.get("views", "") for key in live if key in metadata]
                values = [value for text in texts if (value := number_of(text)) is not None]
                wanted = sum(values) / len(values) if values else math.nan
                found = catalog.files.means.get("views", np.full(catalog.shard_count, np.nan))
                np.testing.assert_allclose(found[int(shard_id)], wanted, rtol=1e-12)


def test_a_column_without_numbers_is_refused_and_nothing_is_committed(store: Store) -> None:
    with pytest.raises(UserError, match="--order vews: no such numeric metadata column; there are views"):
        listed(store, {"a": "3"}, "vews")
    assert list(store.list()) == []
    listed(store, {"a": "3"}, "views")
    before = [entry.path for entry in store.list()]
    for views in ({"a": "3"}, {"a": "4", "b": "1"}):
        with pytest.raises(UserError, match="--order vews"):
            listed(store, views, "vews")
    assert [entry.path for entry in store.list()] == before


def test_without_a_column_shards_are_cut_in_listing_order(store: Store) -> None:
    catalog = listed(store, {"a": "3", "b": "1000", "c": "2"}, None)
    assert [[item.video_id for item in catalog.read_shard(one)] for one in catalog.shard_ids()] == [["a", "b"], ["c"]]
    np.testing.assert_array_equal(catalog.files.means["views"], [501.5, 2.0])
