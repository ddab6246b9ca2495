"""Leases: one holder, whoever races, dies or is paused."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from wsgiref.types import WSGIEnvironment

import psutil
import pytest

from records.errors import BusyError, UserError
from storage.lease_records import LeaseRecord
from storage.leases import Lease
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.conftest import QUICK

PATH = "leases/lease.json"

HOLDER = """
import sys
from storage.leases import Lease
from storage.stores import Store
with Lease.acquire(Store.open(sys.argv[1]), "holder", ttl_seconds=float(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
print("released", flush=True)
"""


def holder(uri: str, ttl_seconds: float = 30.0) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, uri, str(ttl_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def end(process: "subprocess.Popen[bytes]") -> None:
    process.communicate()


def stored(store: Store) -> LeaseRecord:
    return LeaseRecord(**json.loads(store.read_bytes(PATH)))


def as_if_elsewhere(store: Store, ttl_seconds: float) -> None:
    """Rewrites the stored lease as that of another machine, which nobody renews."""
    data, token = store.read_with_token(PATH)
    record = replace(
        LeaseRecord(**json.loads(data)),
        host="elsewhere",
        machine="m",
        owner="other",
        ttl_seconds=ttl_seconds,
        released=False,
    )
    assert store.replace(PATH, record.encode(), token)


def test_a_live_holder_is_named_and_a_released_lease_is_free(store: Store, store_uri: str) -> None:
    process = holder(store_uri)
    with pytest.raises(BusyError) as caught:
        Lease.acquire(store, "second")
    for part in ("run holder", stored(store).host, f"process {process.pid}", "since 2"):
        assert part in str(caught.value)
    end(process)
    assert stored(store).released
    with Lease.acquire(store, "third") as lease:
        lease.check()
        assert stored(store).run_id == "third"
        with pytest.raises(BusyError, match="run third"):
            Lease.acquire(store, "fourth")


def test_ranges_have_leases_of_their_own(store: Store) -> None:
    with Lease.acquire(store, "a", shards=(0, 100)) as first, Lease.acquire(store, "b", shards=(100, 200)):
        first.check()
        with pytest.raises(BusyError, match="run a"):
            Lease.acquire(store, "c", shards=(0, 100))


def test_a_holder_killed_on_this_machine_is_replaced_at_once(store: Store, store_uri: str) -> None:
    process = holder(store_uri, ttl_seconds=3600)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end_pipes(process)
    with Lease.acquire(store, "next"):
        assert stored(store).run_id == "next"


def end_pipes(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def test_a_killed_holder_whose_parent_does_not_wait_is_gone_too(store: Store, store_uri: str) -> None:
    process = holder(store_uri, ttl_seconds=3600)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie until somebody waits
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    with Lease.acquire(store, "next"):
        assert stored(store).run_id == "next"
    process.wait()
    end_pipes(process)


def test_another_process_with_the_dead_holders_number_does_not_hold_it(store: Store, store_uri: str) -> None:
    with Lease.acquire(store, "first"):
        pass
    data, token = store.read_with_token(PATH)
    first = LeaseRecord(**json.loads(data))
    record = replace(first, released=False, process_started=first.process_started - 1000, ttl_seconds=3600)
    assert store.replace(PATH, record.encode(), token)
    with Lease.acquire(store, "next"):
        assert stored(store).run_id == "next"


def test_a_silent_holder_elsewhere_is_replaced_after_its_own_term(store: Store) -> None:
    with Lease.acquire(store, "first"):
        pass
    as_if_elsewhere(store, ttl_seconds=0.4)
    with Lease.acquire(store, "next", ttl_seconds=30):
        assert stored(store).run_id == "next"


def test_a_holder_elsewhere_that_renews_is_left_alone(store: Store) -> None:
    with Lease.acquire(store, "first"):
        pass
    as_if_elsewhere(store, ttl_seconds=20)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.05):
            data, token = store.read_with_token(PATH)
            record = replace(LeaseRecord(**json.loads(data)), nonce=os.urandom(8).hex())
            store.replace(PATH, record.encode(), token)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(BusyError, match="on elsewhere"):
            Lease.acquire(store, "next")
    finally:
        stop.set()
        thread.join()


def test_a_lease_is_renewed_for_as_long_as_it_is_held(store: Store) -> None:
    with Lease.acquire(store, "first", ttl_seconds=0.3) as lease:
        seen = {stored(store).nonce}
        while len(seen) < 4:
            seen.add(stored(store).nonce)
            assert not lease.lost.is_set()
        lease.check()


def test_who_was_replaced_learns_it_and_does_not_take_it_back(store: Store) -> None:
    lease = Lease.acquire(store, "paused", ttl_seconds=0.3)
    as_if_elsewhere(store, ttl_seconds=30)
    assert lease.lost.wait(20)
    with pytest.raises(BusyError, match="lost"):
        lease.check()
    lease.release()
    assert stored(store).owner == "other"
    assert not stored(store).released


def test_a_store_that_stays_away_loses_the_lease(s3_server: S3Server, s3_bucket: str) -> None:
    lease = Lease.acquire(Store.open(s3_bucket, retry=QUICK), "cut off", ttl_seconds=0.3)
    with s3_server.refusing(lambda environ: (503, "SlowDown")):
        assert lease.lost.wait(20)
    lease.release()


def test_renewals_whose_answers_are_lost_do_not_lose_the_lease(s3_server: S3Server, s3_bucket: str) -> None:
    store = Store.open(s3_bucket, retry=QUICK)
    count = [0]

    def lose(environ: WSGIEnvironment) -> tuple[int, str] | None:
        if environ["REQUEST_METHOD"] != "PUT":
            return None
        count[0] += 1
        return (500, "InternalError") if count[0] <= QUICK.attempts else None

    with Lease.acquire(store, "first", ttl_seconds=1.5) as lease:
        s3_server.lose_answer = lose
        try:
            while count[0] <= QUICK.attempts and not lease.lost.is_set():
                lease.lost.wait(0.05)
            unheard = stored(store).nonce
            while stored(store).nonce == unheard and not lease.lost.is_set():
                lease.lost.wait(0.05)
        finally:
            s3_server.lose_answer = None
        lease.check()
        assert stored(store).nonce != unheard


def test_garbled_tokens_do_not_lose_the_lease(s3_server: S3Server, s3_bucket: str) -> None:
    store = Store.open(s3_bucket, retry=QUICK)
    garbled = [0]

    def garble(environ: WSGIEnvironment, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        tagged = any(name.lower() == "etag" for name, _ in headers)
        if environ["REQUEST_METHOD"] != "GET" or garbled[0] == 5 or not tagged:
            return headers
        garbled[0] += 1
        return [(name, '"wrong"' if name.lower() == "etag" else value) for name, value in headers]

    s3_server.edit_headers = garble
    Lease.acquire(store, "released", ttl_seconds=60).release()
    s3_server.edit_headers = None
    assert garbled[0] == 5
    assert stored(store).released

    garbled[0] = 0
    with Lease.acquire(store, "first", ttl_seconds=3) as lease:
        s3_server.edit_headers = garble
        try:
            while garbled[0] < 5 and not lease.lost.is_set():
                lease.lost.wait(0.05)
            unheard = stored(store).nonce
            while stored(store).nonce == unheard and not lease.lost.is_set():
                lease.lost.wait(0.05)
        finally:
            s3_server.edit_headers = None
        lease.check()


def test_of_many_takers_one_wins(store: Store, store_uri: str) -> None:
    for turn in range(5):
        barrier = threading.Barrier(5)
        won: list[Lease] = []
        refused: list[str] = []

        def take(
            number: int, gate: threading.Barrier = barrier, winners: list[Lease] = won, losers: list[str] = refused
        ) -> None:
            gate.wait()
            try:
                winners.append(Lease.acquire(Store.open(store_uri, retry=QUICK), f"taker-{number}", ttl_seconds=5))
            except BusyError as error:
                losers.append(str(error))

        if turn == 3:
            as_if_elsewhere(store, ttl_seconds=0.2)
        threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert len(refused) == 4
        assert all(f"run {stored(store).run_id} " in text for text in refused)
        won[0].check()
        won[0].release()


def test_a_lease_of_another_making_is_not_overwritten(store: Store) -> None:
    store.create(PATH, b"{}")
    with pytest.raises(UserError, match="no lease of this version"):
        Lease.acquire(store, "x")
    assert store.read_bytes(PATH) == b"{}"


def test_a_holder_that_was_paused_learns_at_its_next_check_whether_another_holds_the_lease(store: Store) -> None:
    lease = Lease.acquire(store, "paused")
    lease._renewed -= 3600
    lease.check()
    data, token = store.read_with_token(lease._path)
    assert store.replace(lease._path, data.replace(lease._record.owner.encode(), b"another"), token)
    with pytest.raises(BusyError, match="paused lost"):
        lease.check()
    assert not lease.lost.is_set(), "its renewals have not been there yet"
    lease._renewed += 3600
    lease.check()
    lease.release()
