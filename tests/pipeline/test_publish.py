"""A publish from end to end: what a release holds, and what never happens to one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.publish_config import PublishConfig
from pipeline.reader import live_items
from records.errors import ReelscribeError, UserError
from records.outcomes import Embedding
from records.releases import VIEWS
from storage.catalog import Catalog
from storage.local_store import LocalBackend
from storage.releases import Releases
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.pipeline.publishing import (
    CONFIG,
    filled,
    ids_and_vectors,
    items_of,
    manifest_of,
    objects,
    publish,
    with_gates,
)
from tests.pipeline.stage_maker import SPECS, Maker, failing, ids_of


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def assert_whole(uri: str, name: str) -> None:
    """Ids, flags and vectors of a release agree line by line with its rows and with the stage tables."""
    store = Store.open(uri)
    catalog = Catalog.open(store)
    assert catalog is not None
    expected = [item for shard_id in catalog.shard_ids() for item in live_items(catalog, shard_id)]
    rows = items_of(uri, name)
    assert [(row["video_id"], row["version"], row["uri"]) for row in rows] == [
        (item.video_id, item.version, item.uri) for item in expected
    ]
    stored: dict[tuple[str, int], Embedding] = {}
    tables = StageTables(store)
    for shard_id, generation in tables.generations("embed", "e1"):
        for made in tables.read("embed", "e1", shard_id, generation):
            if isinstance(made.outcome, Embedding):
                stored[made.key] = made.outcome
    for view in VIEWS:
        ids, matrix = ids_and_vectors(uri, name, view)
        assert len(ids) == len(matrix) == len(rows)
        for row, line, vector in zip(rows, ids, matrix, strict=True):
            key = (row["video_id"], row["version"])
            assert (line["video_id"], line["version"]) == key
            original = getattr(stored[key], view).vector
            assert line[f"has_{view}"] == (original is not None) == (row[f"vector_{view}"] is not None)
            np.testing.assert_array_equal(vector, np.zeros(len(vector)) if original is None else original)
    manifest = manifest_of(uri, name)
    sizes = {path.partition(f"{name}/")[2]: len(data) for path, data in objects(uri, f"releases/{name}/").items()}
    assert {file["path"]: file["size_bytes"] for file in manifest["files"]} | {
        "manifest.json": sizes["manifest.json"]
    } == sizes
    assert manifest["counts"]["items"] == len(rows)


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_release_holds_every_item_once_and_in_order(uri: str, dtype: Any) -> None:  # noqa: ANN401 - a literal
    filled(uri, dtype=dtype, change=failing("caption", "clip-0007"))
    config = replace(CONFIG, embed=replace(CONFIG.embed, dtype=dtype))
    published = publish(uri, "r1", config)
    assert (published.state, published.latest_moved, published.items) == ("published", True, 60)
    assert_whole(uri, "r1")
    _, matrix = ids_and_vectors(uri, "r1", "video")
    assert (matrix.dtype, matrix.shape) == (np.dtype(dtype), (60, 16))
    assert Store.open(uri).read_bytes("releases/LATEST") == b"r1\n"
    manifest = manifest_of(uri, "r1")
    assert manifest["counts"] | {"parts": 0} == {
        "items": 60, "items_with_errors": 1, "shards": 8, "shards_left_out": 0, "parts": 0,
        "vectors_video": 59, "vectors_all": 59, "vectors_metadata": 30,
        "vectors_audio": sum(row["missing_audio"] == "" for row in items_of(uri, "r1")),
    }  # fmt: skip
    assert manifest["counts"]["parts"] > 1
    assert manifest["fingerprints"] == {name: spec.fingerprint for name, spec in SPECS.items()}
    assert manifest["models"]["caption"] == {"model": "seer", "made_with": ["v1"]}
    assert manifest["prompts"]["caption"] == CONFIG.caption.prompt
    assert manifest["versions"]["pyarrow"]
    assert {gate["state"] for gate in manifest["gates"]} == {"passed", "skipped"}
    assert objects(uri, "publishing/") == {}


@pytest.mark.usefixtures("no_plots")
def test_an_array_can_be_memory_mapped(uri: str) -> None:
    filled(uri)
    publish(uri, "r1", CONFIG)
    mapped = np.load(Path(uri) / "releases" / "r1" / "vectors" / "all.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, ids_and_vectors(uri, "r1", "all")[1])


@pytest.mark.usefixtures("no_plots")
def test_publishing_twice_changes_nothing_and_says_so(uri: str) -> None:
    filled(uri)
    publish(uri, "r1", CONFIG)
    before = {path: path.stat().st_mtime_ns for path in Path(uri, "releases").rglob("*")}
    again = publish(uri, "r1", CONFIG)
    assert (again.state, again.latest_moved) == ("unchanged", False)
    assert {path: path.stat().st_mtime_ns for path in Path(uri, "releases").rglob("*")} == before


@pytest.mark.usefixtures("no_plots")
def test_a_release_that_was_damaged_is_named_and_latest_stays(uri: str) -> None:
    filled(uri)
    publish(uri, "r1", CONFIG)
    publish(uri, "r2", CONFIG)
    store = Store.open(uri)
    _, token = store.read_with_token("releases/r1/vectors/all.npy")
    assert store.replace("releases/r1/vectors/all.npy", b"cut", token)
    with pytest.raises(ReelscribeError, match=r"r1/vectors/all.npy is 3 bytes, not \d+ bytes: the release is damaged"):
        publish(uri, "r1", CONFIG)
    assert Releases(store).latest() == "r2"


def test_the_same_content_under_two_names_is_the_same_bytes(uri: str, tmp_path: Path) -> None:
    filled(uri)
    filled(str(tmp_path / "other"))
    publish(uri, "r1", CONFIG)
    publish(str(tmp_path / "other"), "r1", CONFIG)
    assert objects(uri) == objects(str(tmp_path / "other"))


@pytest.mark.usefixtures("no_plots")
def test_another_content_under_a_taken_name_is_refused(uri: str) -> None:
    maker = filled(uri)
    publish(uri, "r1", CONFIG)
    before = objects(uri)
    maker.fill(maker.list_items(ids_of(61)))
    with pytest.raises(UserError, match="release r1 is there already and holds something else"):
        publish(uri, "r1", CONFIG)
    assert objects(uri) == before


def test_old_releases_stay_as_they_were(uri: str) -> None:
    maker = filled(uri)
    publish(uri, "r1", CONFIG)
    first = objects(uri, "releases/r1/")
    catalog = maker.list_items([*ids_of(50), "new-1"], etag="2")
    maker.fill(catalog)
    published = publish(uri, "r2", with_gates(min_neighbour_overlap=0.0, min_rows=20))
    assert (published.state, published.latest_moved) == ("published", True)
    assert objects(uri, "releases/r1/") == first
    assert Releases(Store.open(uri)).latest() == "r2"
    assert len(items_of(uri, "r2")) == 51
    assert {row["version"] for row in items_of(uri, "r2")} == {1, 2}
    assert_whole(uri, "r2")
    assert manifest_of(uri, "r2")["previous"] == "r1"


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_the_same_items_have_the_same_neighbours_and_another_encoder_others(uri: str) -> None:
    filled(uri)
    publish(uri, "r1", CONFIG)
    published = publish(uri, "r2", CONFIG)
    overlaps = [result.value for result in published.results if result.gate == "neighbour_overlap"]
    assert [value for value in overlaps if value is not None] == [1.0, 1.0]  # audio and metadata are too few
    specs = {**SPECS, "embed": replace(SPECS["embed"], fingerprint="e2")}
    other = Maker(store=Store.open(uri), specs=specs, dimension=12)
    catalog = Catalog.open(Store.open(uri))
    assert catalog is not None
    other.fill(catalog)
    published = publish(uri, "r3", CONFIG, specs=specs)
    assert published.state == "refused"
    assert {result.name for result in published.failures} == {"neighbour_overlap.all", "neighbour_overlap.video"}


@pytest.mark.usefixtures("no_plots")
def test_a_failed_gate_stops_the_release_with_its_number_and_a_report(uri: str) -> None:
    filled(uri)
    publish(uri, "r1", CONFIG)
    maker = Maker(store=Store.open(uri), change=failing("caption", *ids_of(12)))
    maker.fill(maker.list_items(ids_of(60)), generation=1)
    published = publish(uri, "r2", CONFIG)
    assert (published.state, published.latest_moved) == ("refused", False)
    assert {result.name: result.value for result in published.failures} == {
        "error_share.caption": 0.2, "missing.all": 0.2, "missing.video": 0.2,
    }  # fmt: skip
    store = Store.open(uri)
    assert store.read_bytes("releases/LATEST") == b"r1\n"
    assert not store.exists("releases/r2/manifest.json")
    assert not store.exists("releases/r2/vectors/all.npy")
    report = Path(published.report_uri).read_text()
    assert "3 of " in report
    assert "gates failed" in report
    forgiving = with_gates(max_error_share=0.3, max_missing_all=0.3, max_missing_video=0.3)
    assert publish(uri, "r2", forgiving).state == "published"
    assert_whole(uri, "r2")


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths in the order in which a folder's objects came to be."""
    seen: list[str] = []
    for name in ("create", "replace", "finish_upload"):
        original = getattr(LocalBackend, name)

        def noted(self: LocalBackend, path: str, *more: Any, of: Any = original) -> bool:  # noqa: ANN401 - a method
            done: bool = of(self, path, *more)
            if done:
                seen.append(path)
            return done

        monkeypatch.setattr(LocalBackend, name, noted)
    return seen


@pytest.mark.usefixtures("no_plots")
def test_the_manifest_comes_after_everything_it_names_and_the_pointer_last(uri: str, writes: list[str]) -> None:
    filled(uri)
    writes.clear()
    publish(uri, "r1", CONFIG)
    publish(uri, "r2", CONFIG)
    released = [path for path in writes if path.startswith("releases/")]
    for name in ("r1", "r2"):
        of_name = [path for path in released if path.startswith(f"releases/{name}/")]
        assert of_name[-1] == f"releases/{name}/manifest.json"
        assert len(of_name) == len(set(of_name)) == len(manifest_of(uri, name)["files"]) + 1
        place = released.index(f"releases/{name}/manifest.json")
        assert released[place + 1] == "releases/LATEST"


@pytest.mark.usefixtures("no_plots")
def test_leftovers_of_another_content_are_cleared(uri: str) -> None:
    maker = filled(uri)
    store = Store.open(uri)
    publish(uri, "r1", with_gates(max_missing_metadata=0.1))  # refused: leaves its items files
    left = objects(uri, "releases/r1/items/")
    assert left
    store.create("releases/r1/items/part-99999.parquet", b"of a killed publish")
    maker.fill(maker.list_items(ids_of(30)))
    assert publish(uri, "r1", with_gates(min_rows=20)).state == "published"
    assert_whole(uri, "r1")
    assert store.open_uploads("") == []


@pytest.mark.usefixtures("no_plots")
def test_a_release_of_large_pieces_is_the_same(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(uri)
    publish(uri, "r1", CONFIG)
    monkeypatch.setattr(PublishConfig, "__post_init__", lambda self: None)
    tiny_pieces = replace(CONFIG, publish=replace(CONFIG.publish, piece_bytes=97))
    monkeypatch.setattr("pipeline.publish_whole.piece_bytes_for", lambda size, least: least)
    publish(uri, "r2", tiny_pieces)
    for view in VIEWS:
        one, other = (objects(uri, f"releases/{name}/vectors/{view}.npy") for name in ("r1", "r2"))
        assert list(one.values()) == list(other.values())


@pytest.mark.usefixtures("no_plots")
def test_a_password_that_an_older_catalog_holds_in_its_source_is_in_no_release(uri: str) -> None:
    maker = Maker(store=Store.open(uri))
    maker.fill(maker.list_items(ids_of(20), root="memory://user:PASSWORD@host/v"))
    publish(uri, "r1", CONFIG)
    assert manifest_of(uri, "r1")["source"] == "memory://user@host/v"
    store = Store.open(uri)
    assert [one.path for one in store.list("releases/") if b"PASSWORD" in store.read_bytes(one.path)] == []
