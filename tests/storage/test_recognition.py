"""What a source is taken for, and what is said of one that is several things or none."""

import logging
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import UserError
from storage.source_items import LeftOut, SourceItem, with_checked_ids
from storage.sources import SourceFormat, open_source, recognised
from storage.stores import Store
from tests.storage.listings import listed
from tests.storage.tars import tar_of


def parquet(folder: Path, **columns: list[object]) -> bytes:
    pq.write_table(pa.table(columns), folder / "p.parquet")
    return (folder / "p.parquet").read_bytes()


def test_each_kind_is_told_by_its_name_or_by_what_lies_in_it(store: Store, tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", {"a.mp4": b"1"}).read_bytes()
    videos, uris = parquet(tmp_path, id=["1"], video=[b"x"]), parquet(tmp_path, id=["1"], uri=["x"])
    objects = {
        "files/x/a.mp4": b"",
        "files/metadata.parquet": uris,
        "files/titles.csv": b"id,title\n",
        "tars/a.tar": tar,
        "videos/part-0.parquet": videos,
        "videos/_SUCCESS": b"",
        "lists/part-0.parquet": uris,
        "hidden/.cache/a.mp4": b"",
        "hidden/_old/a.tar": tar,
        "hidden/b.parquet": videos,
        "l.CSV": b"id,uri\n",
        "l.jsonl": b"",
        "other/readme.md": b"",
    }
    for path, data in objects.items():
        store.create(path, data)
    wanted = {
        "files": SourceFormat.FILES,
        "tars": SourceFormat.WEBDATASET,
        "tars/a.tar": SourceFormat.WEBDATASET,
        "videos": SourceFormat.PARQUET,
        "videos/part-0.parquet": SourceFormat.PARQUET,
        "lists": SourceFormat.LIST,
        "lists/part-0.parquet": SourceFormat.LIST,
        "hidden": SourceFormat.PARQUET,
        "l.CSV": SourceFormat.LIST,
        "l.jsonl": SourceFormat.LIST,
        "other": SourceFormat.FILES,
    }
    assert {path: recognised(store.uri(path)) for path in wanted} == wanted


def test_what_is_several_things_or_none(store: Store, tmp_path: Path) -> None:
    store.create("both/a.mp4", b"")
    store.create("both/b.tar", tar_of(tmp_path / "a.tar", {}).read_bytes())
    with pytest.raises(UserError, match=r"holds a.mp4 \(files\) and b.tar \(webdataset\): say which with --format"):
        recognised(store.uri("both"))
    store.create("neither/p.parquet", parquet(tmp_path, id=["1"], name=["x"]))
    with pytest.raises(UserError, match="neither a column of bytes nor one of uri, url, path, file_name"):
        recognised(store.uri("neither"))
    with pytest.raises(UserError, match="there is no such folder, or nothing in it"):
        recognised(store.uri("absent"))
    for name in ("absent.csv", "absent.tar", "absent.parquet"):
        with pytest.raises(UserError, match="there is no such file"):
            listed(store.uri(name))
    store.create("other/readme.md", b"")
    for format, held in (("files", "media files"), ("list", "lines"), ("webdataset", "videos"), ("parquet", "rows")):
        with pytest.raises(UserError, match=f"no {held}"):
            listed(store.uri("other"), format)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("gs://bucket/videos", "gs:// needs the package gcsfs: install it, or this project with the extra 'gcs'"),
        ("abfs://box/videos", "abfs:// needs the package adlfs: install it, or this project with the extra 'azure'"),
        ("nothing://x", "unknown kind of store 'nothing'"),
    ],
)
def test_stores_whose_package_is_missing(uri: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=words) as caught:
        recognised(uri)
    assert "\n" not in str(caught.value)


def test_sources_on_any_file_system_that_fsspec_knows(tmp_path: Path) -> None:
    store = Store.open("memory://sources")
    store.create("tars/a.tar", tar_of(tmp_path / "a.tar", {"a.mp4": b"1"}).read_bytes())
    store.create("p/a.parquet", parquet(tmp_path, id=["1"], video=[b"x"]))
    store.create("l.csv", b"id,uri\n1,a.mp4\n")
    for path in ("tars", "p", "l.csv"):
        assert len(listed(store.uri(path))[0]) == 1


@pytest.mark.parametrize("bad", ["", "a\nb", "a\0", "\x7f", "a\u2028b", "\x85", "\ud800", "\x1b[31m"])
def test_ids_that_cannot_be_kept(bad: str) -> None:
    item = SourceItem(video_id=bad, uri="/x", size_bytes=1, etag="")
    (left_out,) = with_checked_ids([item])
    assert isinstance(left_out, LeftOut)
    assert left_out.reason == "bad_id"
    assert left_out.name.isprintable()
    left_out.name.encode()


@pytest.mark.parametrize("good", ["a/b", "a b", "ä", "日本", "../x", "\u200d", "x" * 1024, "a,b;c'\"\\"])
def test_ids_that_are_kept_as_they_are(good: str) -> None:
    item = SourceItem(video_id=good, uri="/x", size_bytes=1, etag="")
    assert list(with_checked_ids([item])) == [item]


def test_empty_files_are_listed_and_no_listing_is_held(tmp_path: Path) -> None:
    """As with a million: `benchmarks/bench_sources.py` lists those."""
    for number in range(3000):
        folder = tmp_path / f"{number // 100:03d}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.mp4").touch()
    source = open_source(str(tmp_path))
    tracemalloc.start()
    sizes = [entry.size_bytes for entry in source.items() if isinstance(entry, SourceItem)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [0] * 3000
    assert peak < 200_000, "one folder's names at a time"


def test_what_is_no_ordinary_file_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.WARNING):
        items = list(open_source(str(tmp_path)).items())
    assert [item.video_id for item in items if isinstance(item, SourceItem)] == ["a"]
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"{tmp_path}/b.mp4 is a broken link or no ordinary file: left out"]
