"""The split equals one made user by user, and everything left out is counted."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.errors import UserError
from recsys.catalogue import Catalogue
from recsys.interactions import interactions_of
from recsys.protocol import Part, ProtocolConfig, split_interactions

ITEMS = [str(item) for item in range(12)]
KNOWN = ITEMS[:9]

histories = st.dictionaries(
    st.sampled_from(["ann", "bob", "cy", "dee"]), st.lists(st.sampled_from(ITEMS), min_size=1, max_size=20), min_size=1
)


@given(histories=histories, last_items=st.integers(3, 6))
def test_the_split_equals_one_made_user_by_user(histories: dict[str, list[str]], last_items: int) -> None:
    events = [(user, item) for user, items in histories.items() for item in items]
    interactions = interactions_of(pa.array([u for u, _ in events]), pa.array([i for _, i in events]), None)
    config = ProtocolConfig(last_items=last_items, max_unknown_share=0.999)
    kept, unknown, repeated, older = {}, 0, 0, 0
    for user, items in histories.items():
        known = [item for item in items if item in KNOWN]
        first = list(dict.fromkeys(known))
        unknown, repeated = unknown + len(items) - len(known), repeated + len(known) - len(first)
        older += len(first) - len(first[-last_items:])
        kept[user] = first[-last_items:]
    able = {user: items for user, items in kept.items() if len(items) >= 3}
    if unknown == len(events) or not able:
        with pytest.raises(UserError):
            split_interactions(interactions, Catalogue.of(KNOWN, "here"), config)
        return
    split, out = split_interactions(interactions, Catalogue.of(KNOWN, "here"), config)
    sequences = [split.items[a:b].tolist() for a, b in zip(split.offsets, split.offsets[1:], strict=False)]
    assert sorted(sequences) == sorted([int(item) for item in items] for items in able.values())
    assert (out.events, out.unknown_events, out.repeated_events, out.older_events) == (
        len(events), unknown, repeated, older,
    )  # fmt: skip
    assert out.short_users == len(histories) - len(able)
    assert out.kept_events + out.short_user_events + older + repeated + unknown == len(events)
    parts: tuple[tuple[Part, int], ...] = (("test", 1), ("validation", 2))
    for part, back in parts:
        assert split.targets(part).tolist() == [items[-back] for items in sequences]
        padded, lengths = split.histories(part, last=2)
        for row, length, items in zip(padded, lengths, sequences, strict=True):
            assert row[:length].tolist() == items[:-back][-2:]
            assert (row[length:] == len(KNOWN)).all()
    train = [item for items in sequences for item in items[:-2]]
    assert split.training_counts().tolist() == np.bincount(train, minlength=len(KNOWN)).tolist()


def test_ids_that_do_not_match_are_an_error_that_shows_both() -> None:
    interactions = interactions_of(pa.array(["u"] * 4), pa.array(["clip-1", "clip-2", "3", "clip-4"]), None)
    with pytest.raises(UserError, match=r"75% of 4 events are on 3 unknown items, such as clip-1.*has 1, 2, 3"):
        split_interactions(interactions, Catalogue.of(["1", "2", "3"], "here"), ProtocolConfig())


def test_users_with_one_interaction_only_are_an_error() -> None:
    interactions = interactions_of(pa.array(["u", "v"]), pa.array(["1", "2"]), None)
    with pytest.raises(UserError, match="no user has 3 different items"):
        split_interactions(interactions, Catalogue.of(["1", "2", "3"], "here"), ProtocolConfig())


def test_numbers_sort_as_numbers_and_texts_as_texts() -> None:
    assert Catalogue.of(["10", "9", "100"], "here").item_ids == ("9", "10", "100")
    assert Catalogue.of(["b10", "b9"], "here").item_ids == ("b10", "b9")
    assert Catalogue.of(["10", "9", "x"], "here").indices(["x", "nobody", "10"]).tolist() == [2, -1, 0]


@pytest.mark.parametrize(("ids", "message"), [([], "names no item"), (["a", "b", "a"], "1 items twice, such as a")])
def test_a_catalogue_that_is_none_is_refused(ids: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Catalogue.of(ids, "here")
