"""Leases of ranges: those that share no shard are held at once, those that do refuse each other by name."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.errors import BusyError
from storage.leases import Lease, LeaseRecord, overlaps
from storage.stores import Store

Range = tuple[int, int | None]
ranges = st.tuples(st.integers(0, 6), st.none() | st.integers(1, 6)).map(
    lambda pair: (pair[0], None if pair[1] is None else pair[0] + pair[1])
)


@given(one=ranges, other=ranges)
def test_ranges_overlap_where_they_share_a_shard(one: Range, other: Range) -> None:
    shards = [set(range(start, 20 if stop is None else stop)) for start, stop in (one, other)]
    assert overlaps(one, other) == overlaps(other, one) == bool(shards[0] & shards[1])


def test_disjoint_ranges_are_held_at_once(store: Store) -> None:
    with Lease.acquire(store, "a", shards=(0, 100)), Lease.acquire(store, "b", shards=(100, None)):
        pass
    with Lease.acquire(store, "c"):
        pass


@pytest.mark.parametrize("held", [(0, None), (50, 150), (99, 100), (0, 1)])
def test_a_range_that_shares_a_shard_is_refused_by_name_and_leaves_nothing(store: Store, held: Range) -> None:
    with Lease.acquire(store, "holder", shards=held), pytest.raises(BusyError, match="in use by run holder"):
        Lease.acquire(store, "late", shards=(0, 100))
    named = pytest.raises(BusyError, match=r"\(shards 0:100\) is in use by run late")
    with Lease.acquire(store, "late", shards=(0, 100)), named:
        Lease.acquire(store, "whole")


def test_a_dead_holder_of_an_overlapping_range_is_ended_for_good(store: Store) -> None:
    lease = Lease.acquire(store, "dead", shards=(50, 150), ttl_seconds=3600)
    path = "leases/lease-00000050-00000150.json"
    data, token = store.read_with_token(path)
    record = LeaseRecord(**json.loads(data))
    assert store.replace(path, replace(record, pid=2**22 + 1, nonce="other").encode(), token)
    with Lease.acquire(store, "next", shards=(0, 100)):
        ended = LeaseRecord(**json.loads(store.read_bytes(path)))
        assert ended.released
        assert not lease._write(released=False), "a holder that wakes up must learn that it lost its range"
    lease.lost.set()
    lease.release()
