"""What a refresh survives and what it may take: kills at any write, and memory below that of its listing."""

import os
import random
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from records.items import Metadata
from storage.catalog_refresh import refresh
from storage.sources import SourceItem
from storage.stores import Store
from tests.storage.catalog_model import contents_of, live_of, opened, revision_of, run, source_item, titles_of

REFRESH = """
import sys
from storage.stores import Store
from tests.storage.test_catalog_limits import big_listing, big_table
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


@pytest.mark.slow
def test_a_refresh_killed_at_any_write_is_as_if_it_never_ran(
    store: Store, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = Store.open(str(tmp_path / "calm"))
    chosen = random.Random(5)
    for turn in range(3):
        for wanted in (2 * turn, 100 + turn):  # another listing is killed first, then the wanted one goes through
            command = [sys.executable, "-c", REFRESH, store_uri, str(wanted), str(chosen.randrange(1, 20))]
            if wanted < 100:
                killed = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "TMPDIR": str(tmp_path)},  # what a kill -9 leaves on the temporary disk
                    cwd=Path(__file__).parents[2],
                )
                assert killed.stdin is not None
                assert killed.stdout is not None
                assert killed.stdout.readline().startswith(b"reached")  # several threads may say it
                killed.send_signal(signal.SIGKILL)
                killed.wait()
                killed.stdin.close()
                killed.stdout.close()
            else:
                monkeypatch.setattr("storage.catalog_writer.new_attempt", lambda wanted=wanted: wanted)
                for target in (store, calm):
                    refresh(target, big_listing(wanted), big_table(wanted), "mem", 5, lambda shard_id: 0)
        disturbed, undisturbed = opened(store), opened(calm)
        assert revision_of(store) == revision_of(calm)
        assert live_of(disturbed) == live_of(undisturbed)
        assert titles_of(disturbed) == titles_of(undisturbed)
        store.delete(list(disturbed.unused_paths()))
        calm.delete(list(undisturbed.unused_paths()))
        assert contents_of(store) == contents_of(calm)


@pytest.mark.slow
def test_a_refresh_takes_less_memory_than_its_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.spill.BUFFERED_RECORDS", 500)
    monkeypatch.setattr("storage.catalog_join.ORDINALS_A_PART", 256)
    monkeypatch.setattr("storage.catalog_index.FILE_ROWS", 500)
    monkeypatch.setattr("storage.catalog_index.PARTITIONS", 256)
    monkeypatch.setattr("storage.catalog_join.PARTITIONS", 256)

    def listing() -> Iterator[SourceItem]:
        return (source_item(f"clips/{number:09d}", (1, "e")) for number in range(20_000))

    def peak(work: Callable[[], object]) -> int:
        tracemalloc.start()
        work()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    def peak_of_a_refresh(store: Store) -> int:
        run(store, [("first", (1, "e"))], None)  # what is imported on first use is not the catalog's
        return peak(lambda: refresh(store, listing(), None, "mem", 128, lambda shard_id: 0))

    # The lower of two: what other threads of this process take meanwhile is not the catalog's either.
    both = [peak_of_a_refresh(Store.open(str(tmp_path / name))) for name in "ab"]
    assert min(both) < peak(lambda: list(listing())) / 2


def test_long_metadata_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.spill.BUFFERED_TEXT", 2**20)
    monkeypatch.setattr("storage.catalog_index.FILE_BYTES", 2**20)
    monkeypatch.setattr("storage.catalog_join.ORDINALS_A_PART", 4096)
    store = Store.open(str(tmp_path))
    long = "".join(random.Random(1).choices("abcdefgh", k=20_000))

    def listing(turn: int) -> Iterator[SourceItem]:
        for number in range(1_000):
            metadata = Metadata(title=str(number), extra={"json": f"{turn}{number}{long}"})
            yield replace(source_item(f"{number:06d}", (1, "e")), metadata=metadata)

    changes = []
    for turn in range(2):
        tracemalloc.start()
        changes.append(refresh(store, listing(turn), None, "mem", 16, lambda shard_id: 0))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000 * len(long) / 2, "less than half of all the text"
    assert [(change.new, change.metadata_changed) for change in changes] == [(1_000, 0), (0, 1_000)]
    catalog = opened(store)
    assert [item.video_id for shard in catalog.shard_ids() for item in catalog.read_shard(shard)] == [
        f"{number:06d}" for number in range(1_000)
    ]
