"""What a publish refuses, and how it says so."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.publish_whole import WholeObjects
from records.errors import BusyError, ReelscribeError, UserError
from records.releases import ReleaseFile
from storage.catalog import Catalog
from storage.leases import Lease
from storage.releases import LEASE, Releases
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.pipeline.publishing import CONFIG, filled, items_of, manifest_of, objects, publish, with_gates
from tests.pipeline.stage_maker import SPECS, Maker, ids_of


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "out")


@pytest.mark.usefixtures("no_plots")
def test_unfinished_shards_are_refused_by_number_or_left_out_whole(uri: str) -> None:
    maker = filled(uri, 40)
    catalog = maker.list_items(ids_of(60))
    maker.fill(catalog, shards=["00000005"])
    StageTables(Store.open(uri)).delete("caption", "c1", [("00000001", 0)])
    with pytest.raises(UserError, match=r"3 of 8 shards are not finished .*caption in 3"):
        publish(uri, "r1", CONFIG)
    assert objects(uri) == {}
    published = publish(uri, "r1", with_gates(min_rows=20), allow_partial=True)
    assert published.items == 40
    assert "clip-0008" not in {row["video_id"] for row in items_of(uri, "r1")}
    assert "clip-0040" in {row["video_id"] for row in items_of(uri, "r1")}
    assert manifest_of(uri, "r1")["counts"]["shards_left_out"] == 3
    assert "3 unfinished shards were left out" in Path(published.report_uri).read_text()


def test_a_stale_embedding_is_unfinished(uri: str) -> None:
    maker = filled(uri, 20)
    catalog = Catalog.open(Store.open(uri))
    assert catalog is not None
    newer = Maker(store=maker.store, specs={"caption": SPECS["caption"]})
    newer.fill(catalog, generation=3, shards=["00000000"])
    with pytest.raises(UserError, match=r"1 of 3 shards are not finished .*embed in 1"):
        publish(uri, "r1", CONFIG)


def test_nothing_to_release_says_so(uri: str) -> None:
    with pytest.raises(UserError, match="has no catalog"):
        publish(uri, "r1", CONFIG)
    maker = Maker(store=Store.open(uri))
    maker.list_items(ids_of(3))
    with pytest.raises(UserError, match="1 of 1 shards are not finished"):
        publish(uri, "r1", CONFIG)
    with pytest.raises(UserError, match="no shard is finished"):
        publish(uri, "r1", CONFIG, allow_partial=True)
    with pytest.raises(UserError, match="lacks embed"):
        publish(uri, "r1", CONFIG, specs={"decode": SPECS["decode"]})
    with pytest.raises(UserError, match="--release"):
        publish(uri, "../r1", CONFIG)


def test_a_line_that_is_not_there_stops_the_publish(uri: str) -> None:
    filled(uri, 20)
    tables = StageTables(Store.open(uri))
    rows = tables.read("caption", "c1", "00000001", 0)
    tables.delete("caption", "c1", [("00000001", 0)])
    tables.commit("caption", "c1", "00000001", 0, rows[1:], {})
    with pytest.raises(ReelscribeError, match=r"caption has no line of \('clip-0008', 1\)"):
        publish(uri, "r1", CONFIG)
    assert Releases(Store.open(uri)).manifest("r1") is None


def test_vectors_of_two_dimensions_stop_the_publish(uri: str) -> None:
    maker = filled(uri, 20)
    tables = StageTables(maker.store)
    tables.delete("embed", "e1", [("00000002", 0)])
    catalog = Catalog.open(maker.store)
    assert catalog is not None
    Maker(store=maker.store, dimension=8).fill(catalog, shards=["00000002"])
    with pytest.raises(ReelscribeError, match=r"vectors of \[8, 16\] dimensions"):
        publish(uri, "r1", CONFIG)


@pytest.mark.usefixtures("no_plots")
def test_two_publishers_take_turns_and_a_run_does_not_wait(uri: str) -> None:
    filled(uri, 20)
    with Lease.acquire(Store.open(uri), "annotate"):
        with Lease.acquire(Store.open(uri), "other", name=LEASE), pytest.raises(BusyError, match="run other"):
            publish(uri, "r1", CONFIG)
        assert publish(uri, "r1", with_gates(min_rows=1000)).state == "published"


@pytest.mark.usefixtures("no_plots")
def test_a_publish_that_was_overtaken_touches_no_file_of_the_release(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(uri, 20)
    store = Store.open(uri)
    write, write_over = WholeObjects.write, Releases.write_over

    def overtaken_before_the_small_files(self: WholeObjects, *arguments: Any) -> list[ReleaseFile]:  # noqa: ANN401 - passed on
        files = write(self, *arguments)
        store.create("releases/r1/report.html", b"of the other")
        held[-1].lost.set()
        return files

    def overtaken_before_the_rest_is_removed(self: Releases, objects: Sequence[tuple[str, bytes]]) -> None:
        write_over(self, objects)
        store.create("releases/r1/also.parquet", b"of the other")
        held[-1].lost.set()

    held: list[Lease] = []
    acquire = Lease.acquire

    def acquired(store: Store, run_id: str, name: str) -> Lease:
        held.append(acquire(store, run_id, name=name))
        return held[-1]

    monkeypatch.setattr(Lease, "acquire", acquired)
    with monkeypatch.context() as patch:
        patch.setattr(WholeObjects, "write", overtaken_before_the_small_files)
        with pytest.raises(BusyError, match="lost"):
            publish(uri, "r1", with_gates(min_rows=1))
    assert store.read_bytes("releases/r1/report.html") == b"of the other"
    store.delete([f"leases/{LEASE}.json"])  # which the lost one did not let go
    with monkeypatch.context() as patch:
        patch.setattr(Releases, "write_over", overtaken_before_the_rest_is_removed)
        with pytest.raises(BusyError, match="lost"):
            publish(uri, "r1", with_gates(min_rows=1))
    assert store.read_bytes("releases/r1/also.parquet") == b"of the other"
    assert Releases(store).manifest("r1") is None
