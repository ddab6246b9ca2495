"""Whatever bytes of a file are damaged: it is named, with what to do, or its rows are the right ones."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pytest

from records.errors import Failure, FailureKind, ReelscribeError
from records.items import CatalogItem
from records.outcomes import Caption, MediaFacts
from records.schemas import JournalRow, StageRow
from storage.catalog import Catalog
from storage.journals import Journal, journal_files
from storage.stage_tables import StageTables
from storage.stores import Store
from storage.tables import undamaged
from tests.storage.catalog_model import contents_of, opened, run

T = TypeVar("T")
PLACES = 150
BROKEN = Failure(stage="decode", kind=FailureKind.CORRUPT, message="no picture")
ROWS = [
    StageRow(
        video_id=f"clip-{number}",
        version=1,
        generation=0,
        outcome=BROKEN
        if number % 7 == 0
        else MediaFacts(
            duration_seconds=number * 1.37,
            has_video=True,
            has_audio=True,
            frame_times_seconds=tuple(time * 0.123 * number for time in range(8)),
        ),
    )
    for number in range(200)
]


def damaged(good: bytes) -> Iterator[bytes]:
    """A byte turned over, a bit turned over, cut off, a stretch of zeros, at places all over the file."""
    step = max(1, len(good) // PLACES)
    for place in range(0, len(good), step):
        for flip in (0xFF, 0x08):
            yield good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :]
    for place in range(0, len(good), 10 * step):
        yield good[:place]
        yield good[:place] + bytes(min(64, len(good) - place)) + good[place + 64 :]


def outcomes_of(file: Path, read: Callable[[], T], right: T) -> list[str]:
    """What reading said of each damage; fails where something else than the right result came."""
    good, said = file.read_bytes(), []
    for bad in damaged(good):
        file.write_bytes(bad)
        try:
            assert read() == right
        except ReelscribeError as error:
            said.append(str(error))
    file.write_bytes(good)
    assert said
    assert all(line.startswith(f"{file} is damaged: ") and "\n" not in line for line in said)
    return said


def test_stage_tables(tmp_path: Path) -> None:
    tables = StageTables(Store.open(str(tmp_path)))
    tables.commit("decode", "f", "00000000", 0, ROWS, {"run_id": "r"})
    (file,) = tmp_path.glob("stages/*/*/*")
    said = outcomes_of(file, lambda: tables.read("decode", "f", "00000000", 0), ROWS)
    assert all("delete it, and its items run again" in line for line in said)
    live = tables.live_footer("decode", "f", "00000000", 0, {("clip-0", 1)})
    assert (live.rows, live.failures) == (199, {"corrupt": 28})

    def count() -> int:
        tables.live_footer("decode", "f", "00000000", 0, {("clip-0", 1)})
        return 0

    outcomes_of(file, count, 0)


def test_journals(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    rows = [
        JournalRow(
            shard_id=f"{number // 10:08d}",
            position=number % 10,
            video_id=f"clip-{number:03d}",
            version=1,
            fingerprints={"caption": "f"},
            generations={"caption": 0},
            outcomes={"caption": Caption(text=f"text {number}"), "decode": BROKEN},
        )
        for number in range(100)
    ]
    Journal(store, "r").append(rows)
    (file,) = tmp_path.glob("runs/r/journal/*")
    said = outcomes_of(file, lambda: [row for one in journal_files(store, "r") for row in one.read()], rows)
    assert all("delete it, and its rows run again" in line for line in said)


@pytest.mark.parametrize("pattern", ["revisions/*.shards.parquet", "shards/*", "removed/*", "metadata/*", "index/*/*"])
def test_catalogs(tmp_path: Path, pattern: str) -> None:
    store = Store.open(str(tmp_path))
    listing = [(f"clip-{number:03d}", (number, "e")) for number in range(80)]
    run(store, listing, [(video_id, f"title of {video_id}") for video_id, _ in listing], shard_size=100)
    run(store, listing[:60], None, shard_size=100)
    file = sorted(tmp_path.glob(f"catalog/{pattern}"))[-1]
    before = contents_of(store)

    def read() -> tuple[list[CatalogItem], object, object, int]:
        found = Catalog.open(store)
        assert found is not None
        kept = run(store, listing[:60], None, shard_size=100).unchanged if pattern.startswith("index") else 60
        return found.read_shard("00000000"), found.removed("00000000"), found.newest_metadata("00000000"), kept

    outcomes_of(file, read, read())
    assert contents_of(store) == before
    assert opened(store).item_count == 60


@pytest.mark.parametrize("says", [0, 1, 7])
def test_a_revision_that_counts_other_shards_than_its_table(tmp_path: Path, says: int) -> None:
    store = Store.open(str(tmp_path))
    run(store, [(f"clip-{number}", (number, "e")) for number in range(6)], None, shard_size=2)
    (file,) = tmp_path.glob("catalog/revisions/*.json")
    file.write_text(file.read_text().replace('"shard_count": 3', f'"shard_count": {says}'))
    with pytest.raises(ReelscribeError, match=rf"is damaged: .*3 shards, where \S*0001.json says {says}"):
        Catalog.open(store)


def test_no_memory_is_no_damage() -> None:
    with pytest.raises(MemoryError), undamaged("file", "delete it"):
        raise pa.ArrowMemoryError("malloc of size 64 failed")


def test_what_the_store_says_is_no_damage() -> None:
    for error in (FileNotFoundError("gone"), PermissionError(13, "no"), OSError(5, "i/o"), ReelscribeError("busy")):
        with pytest.raises(type(error)) as caught, undamaged("file", "delete it"):
            raise error
        assert caught.value is error
    with pytest.raises(ReelscribeError, match="file is damaged: delete it"), undamaged("file", "delete it"):
        raise OSError("Corrupt snappy compressed data")
    with pytest.raises(io.UnsupportedOperation), undamaged("file", "delete it"):
        raise io.UnsupportedOperation(22, "seek")
