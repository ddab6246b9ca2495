"""Objects named like a folder, as the S3 console, rclone and Hadoop leave them: no items, and no error."""

from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from storage.catalog import Catalog
from storage.catalog_refresh import refresh
from storage.leases import Lease
from storage.sources import SourceFormat, open_source, recognised
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.listings import listed
from tests.storage.tars import tar_of


def test_a_prefix_with_markers_lists_its_objects(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.fill(s3_bucket, ["videos/", "videos/a.mp4", "videos/sub/", "videos/sub/b.mp4", "videos/x.tar/", "z/"])
    store = Store.open(f"{s3_bucket}/videos")
    assert [entry.path for entry in store.list()] == ["a.mp4", "sub/", "sub/b.mp4", "x.tar/"]
    assert [entry.path for entry in store.list("sub/")] == ["sub/", "sub/b.mp4"]
    assert [entry.path for entry in store.list(after="a.mp4")] == ["sub/", "sub/b.mp4", "x.tar/"]
    assert store.entry("sub/b.mp4").size_bytes == 0
    assert list(store.folders("")) == ["sub", "x.tar"]
    assert recognised(store.root) is SourceFormat.FILES
    assert [item.video_id for item in listed(store.root)[0]] == ["a", "sub/b"]


@pytest.mark.parametrize("ahead", [0, 999, 1000, 1001])
def test_markers_where_a_page_ends(s3_server: S3Server, s3_bucket: str, ahead: int) -> None:
    names = [f"{number:05d}.mp4" for number in range(ahead)]
    s3_server.fill(s3_bucket, ["videos/", *(f"videos/{name}" for name in names), "videos/sub/", "videos/sub/b.mp4"])
    store = Store.open(f"{s3_bucket}/videos")
    assert [entry.path for entry in store.list()] == [*names, "sub/", "sub/b.mp4"]


@pytest.mark.parametrize("ending", ["tar", "csv", "parquet"])
def test_a_folder_named_like_a_file_may_have_a_marker(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, ending: str
) -> None:
    s3_server.fill(s3_bucket, [f"x.{ending}/"])
    s3_server.put_unasked(s3_bucket, f"x.{ending}/0.tar", tar_of(tmp_path / "0.tar", {"a.mp4": b"1"}).read_bytes())
    items, left_out = listed(f"{s3_bucket}/x.{ending}", format="webdataset")
    assert ([item.video_id for item in items], left_out) == (["a"], {})


def test_an_output_whose_folders_have_markers_is_worked_on(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.fill(s3_bucket, ["in/a.mp4", "out/", "out/catalog/", "out/catalog/revisions/", "out/leases/"])
    out, source = Store.open(f"{s3_bucket}/out"), f"{s3_bucket}/in"
    with Lease.acquire(out, "listing") as lease:
        refresh(out, open_source(source).items(), None, source, 10, lambda shard_id: 1, check=lease.check)
    catalog = Catalog.open(out)
    assert catalog is not None
    assert catalog.item_count == 1
    assert list(catalog.unused_paths()) == []


class MarkedFileSystem(MemoryFileSystem):  # type: ignore[misc] # fsspec ships no types
    """As file systems over buckets, it gives a marker as an object of its own."""

    protocol = "marked"

    def find(self, path: str, **options: object) -> dict[str, dict[str, object]]:
        found = dict(super().find(path, detail=True))
        return {f"{path}/": {"name": f"{path}/", "size": 0, "type": "file"}, **found}


def test_a_marker_on_another_kind_of_store() -> None:
    fsspec.register_implementation("marked", MarkedFileSystem, clobber=True)
    store = Store.open("marked://videos")
    store.create("a.mp4", b"1")
    assert [entry.path for entry in store.list()] == ["a.mp4"]
