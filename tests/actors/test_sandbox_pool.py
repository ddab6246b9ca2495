"""Several children behind one door: as many at once as there are, the oldest call first, none lost to an error."""

import os
import threading
from collections.abc import Iterator

import pytest

from actors.sandbox import Sandbox
from actors.sandbox_pool import SandboxPool
from records.errors import BadItemError, FatalError
from storage.fetched import FetchedMedia
from tests.actors import decode_stand_ins as stand_ins

Pool = SandboxPool[object, bytes]


def sandbox() -> Sandbox[object, bytes]:
    return Sandbox(stand_ins.misbehave, timeout_seconds=60, memory_limit_bytes=300 << 20)


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(sandbox, 1)
    yield pool
    pool.close()


def test_of_those_that_wait_the_oldest_goes_first(pool: Pool) -> None:
    order: list[int] = []
    busy, release = threading.Event(), threading.Event()

    class Held(Sandbox[object, bytes]):
        def run(self, data: FetchedMedia | bytes, request: object) -> bytes:
            busy.set()
            assert release.wait(20)
            order.append(int(str(request)))
            return b""

    pool._all[0].close()
    held = Held(stand_ins.misbehave, timeout_seconds=60, memory_limit_bytes=300 << 20)
    pool._all[0] = pool._idle[0] = held
    places = [0, 7, 3, 5, 1]
    threads = [threading.Thread(target=pool.run, args=(place, FetchedMedia.of_bytes(b""), place)) for place in places]
    threads[0].start()
    assert busy.wait(20)
    for number, thread in enumerate(threads[1:], start=1):
        thread.start()
        while len(pool._waiting) < number:
            pass
    release.set()
    for thread in threads:
        thread.join(timeout=20)
    assert order == [0, 1, 3, 5, 7]


def test_an_error_gives_the_child_back(pool: Pool) -> None:
    for place in range(3):
        with pytest.raises(BadItemError):
            pool.run(place, FetchedMedia.of_bytes(b"raise"), None)
    with pytest.raises(BadItemError):
        pool.run(3, FetchedMedia.of_bytes(b"exit"), None)
    assert pool.run(4, FetchedMedia.of_bytes(b"good"), None) == b"good"


def test_as_many_at_once_as_there_are_and_none_after_close() -> None:
    pool = SandboxPool[object, tuple[bytes, object, int]](
        lambda: Sandbox(stand_ins.echo, timeout_seconds=60, memory_limit_bytes=300 << 20), 2
    )
    pids: set[int] = set()
    threads = [
        threading.Thread(target=lambda place=place: pids.add(pool.run(place, FetchedMedia.of_bytes(b"x"), None)[2]))
        for place in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids
    pool.close()
    with pytest.raises(FatalError):
        pool.run(99, FetchedMedia.of_bytes(b"x"), None)
