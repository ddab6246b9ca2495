"""A holder whose machine was suspended, or paused from outside, does not go on as if no time had passed."""

import time

import pytest

from records.errors import BusyError
from storage.leases import Lease
from storage.stores import Store
from tests.storage.test_leases import as_if_elsewhere


@pytest.mark.parametrize("seen_by", ["who asks", "a clock that counts sleep"])
def test_a_holder_that_slept_learns_that_it_was_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch, seen_by: str
) -> None:
    lease = Lease.acquire(store, "slept")
    as_if_elsewhere(store, ttl_seconds=30)
    lease.check()
    if seen_by != "who asks":
        clock = time.clock_gettime
        monkeypatch.setattr(time, "clock_gettime", lambda number: clock(number) + 3600 * (number == 7))
        assert time.CLOCK_BOOTTIME == 7
    with pytest.raises(BusyError, match="slept lost"):
        lease.check(ask=seen_by == "who asks")
    lease.lost.set()
    lease.release()
