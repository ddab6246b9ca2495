"""What a source is taken for, and what is said of one that is several things or none."""

import logging
import os
import sys
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import UserError
from storage.columns import Columns
from storage.source_items import LeftOut, SourceItem, with_checked_ids
from storage.source_objects import source_objects
from storage.source_webdataset import tar_items
from storage.sources import SourceFormat, open_source, recognised
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.listings import listed
from tests.storage.tars import tar_of
from tests.web import WebServer


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
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty/: nothing is in it"):
        recognised(str(tmp_path / "empty"))
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(UserError, match=r"clip.mp4 is one file, and no list, tar or Parquet file by its name: name"):
        recognised(str(tmp_path / "clip.mp4"))
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
    peaks = []
    for _ in range(2):  # in one of them the interpreter's own table of names may grow, by megabytes and once
        source = open_source(str(tmp_path))
        tracemalloc.start()
        sizes = [entry.size_bytes for entry in source.items() if isinstance(entry, SourceItem)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sizes == [0] * 3000
    assert min(peaks) < 200_000, "one folder's names at a time"


def test_what_is_no_ordinary_file_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.WARNING):
        items = list(open_source(str(tmp_path)).items())
    assert [item.video_id for item in items if isinstance(item, SourceItem)] == ["a"]
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"{tmp_path}/b.mp4 is a broken link or no ordinary file: left out"]


def test_a_folder_is_one_whatever_its_name_ends_in(store: Store, tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", {"b.mp4": b"1"}).read_bytes()
    objects = {
        "spark.parquet/_SUCCESS": b"",
        "spark.parquet/part-0.parquet": parquet(tmp_path, id=["p"], video=[b"x"]),
        "uris.parquet/part-0.parquet": parquet(tmp_path, id=["u"], uri=["x"]),
        "spark.csv/part-0.csv": b"id,uri\nc,x\n",
        "spark.csv-old/part-0.csv": b"id,uri\nno,x\n",
        "shards.tar/0.tar": tar,
        "clips.tar/v.mp4": b"",
    }
    for path, data in objects.items():
        store.create(path, data)
    wanted = {
        "spark.parquet": ("p", SourceFormat.PARQUET),
        "uris.parquet": ("u", SourceFormat.LIST),
        "spark.csv": ("c", SourceFormat.LIST),
        "shards.tar": ("b", SourceFormat.WEBDATASET),
        "clips.tar": ("v", SourceFormat.FILES),
    }
    for path, (video_id, format) in wanted.items():
        assert recognised(store.uri(path)) is format
        for given in (None, format):
            items, left_out = listed(store.uri(path), given)
            assert ([item.video_id for item in items], left_out) == ([video_id], {}), path
    with pytest.raises(UserError, match=r"gone\.csv: there is no such file"):
        listed(store.uri("gone.csv"))


def test_names_that_no_file_system_takes_and_bytes_that_are_no_unicode(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too long"):
        listed(str(tmp_path / f"{'a' * 300}.csv"))
    folder = tmp_path / "in"
    folder.mkdir()
    wrong = os.fsdecode(b"\xff")
    tar_of(folder / f"{wrong}.tar", {"a.mp4": b"1"})
    tar_of(folder / "b.tar", {"b.mp4": b"1"})
    (folder / f"{wrong}.parquet").write_bytes(parquet(tmp_path, id=["1"], video=[b"x"]))
    (folder / f"{wrong}.csv").write_bytes(b"id,uri\n1,x\n")
    (folder / "l.csv").write_bytes(b"id,uri\n2,x\n")
    assert [item.video_id for item in listed(str(folder), "webdataset")[0]] == ["b"]
    assert [item.video_id for item in listed(str(folder), "list", "uri=uri")[0]] == ["2"]
    for format, ending in (("webdataset", "tar"), ("list", "csv")):
        names = listed(str(folder), format)[1]["broken_file"]
        assert f"'\\xff.{ending}': its name is no Unicode" in names
    with pytest.raises(UserError, match="its name is no Unicode"):
        listed(str(folder), "parquet")


@pytest.mark.parametrize("size", [-1, -511, -512])
def test_a_tar_member_of_a_size_below_nothing(tmp_path: Path, size: int) -> None:
    bad = tarfile.TarInfo("bad.mp4")
    bad.size = size
    tar = tar_of(tmp_path / "a.tar", {"good.mp4": b"1"}, tarfile.GNU_FORMAT)
    tar.write_bytes(tar.read_bytes()[:1024] + bad.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    items, left_out = listed(str(tar))
    assert ([item.video_id for item in items], list(left_out)) == (["good"], ["broken_file"])


def test_a_tar_that_is_gone_before_it_is_read_is_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tar_of(tmp_path / f"{name}.tar", {f"{name}.mp4": b"1"})
    sources = list(source_objects(str(tmp_path), (".tar",)))
    (tmp_path / "a.tar").unlink()
    found = [entry for source in sources for entry in tar_items(source)]
    assert [entry.reason if isinstance(entry, LeftOut) else entry.video_id for entry in found] == ["broken_file", "b"]


def test_a_named_column_says_what_a_parquet_file_is(store: Store, tmp_path: Path) -> None:
    store.create("where.parquet", parquet(tmp_path, id=["1"], where=["a.mp4"]))
    store.create("both/both.parquet", parquet(tmp_path, id=["1"], uri=["a.mp4"], video=[b"x"]))
    for path in ("where.parquet", "both/both.parquet", "both"):
        column = "where" if path.startswith("where") else "uri"
        assert recognised(store.uri(path), Columns(uri=column)) is SourceFormat.LIST
    assert [item.uri for item in listed(store.uri("where.parquet"), columns="uri=where")[0]] == [store.uri("a.mp4")]
    for path in ("both/both.parquet", "both"):
        assert recognised(store.uri(path), Columns(bytes="video")) is SourceFormat.PARQUET
    with pytest.raises(UserError, match="no column wher among id, where; did you mean --columns uri=where"):
        listed(store.uri("where.parquet"), columns="uri=wher")


def test_a_number_of_thousands_of_digits_is_a_line_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id":"1","uri":"a"}\n{"id":"2","uri":"b","n":' + "1" * 5000 + "}\n")
    with pytest.raises(UserError, match=r"a\.jsonl: row 2 cannot be read: Exceeds the limit"):
        listed(str(tmp_path / "a.jsonl"))


def one_of_each(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Name without an ending to the format that is named for it, and content."""
    return {
        "shard-000": ("webdataset", tar_of(folder / "a.tar", {"1.mp4": b"x"}).read_bytes()),
        "videos": ("parquet", parquet(folder, id=["1"], video=[b"x"])),
        "uris": ("list", parquet(folder, id=["1"], uri=["x"])),
        "export": ("list", b"\xef\xbb\xbfid,uri\n1,x\n"),
        "tabs.txt": ("list", b"id\turi\ttitle\n1\tx\ta, b\n"),
        "items.json": ("list", b'\n{"id": 1, "uri": "x"}\n'),
    }


def test_an_object_is_what_format_says_whatever_its_name(store: Store, tmp_path: Path, web: WebServer) -> None:
    for name, (format, data) in one_of_each(tmp_path).items():
        store.create(f"sub/{name}", data)
        web.objects[f"/sub/{name}"] = data
        for uri in (store.uri(f"sub/{name}"), web.url(f"/sub/{name}")):
            items, left_out = listed(uri, format)
            assert ([item.video_id for item in items], left_out) == (["1"], {}), uri
        with pytest.raises(UserError, match=r"with --format|nothing in it"):
            listed(store.uri(f"sub/{name}"))
    for name, words in (("shard-000", "no table that can be read: it must be one of .csv"), ("gone", "no lines")):
        with pytest.raises(UserError, match=words) as caught:
            listed(store.uri(f"sub/{name}"), "list")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="there is no such file"):
        listed(web.url("/sub/gone"), "list")


def test_an_empty_object_named_like_a_folder_is_none(s3_server: S3Server, s3_bucket: str) -> None:
    """As Azure's folders show in some listings."""
    s3_server.fill(s3_bucket, ["lists"])
    Store.open(s3_bucket).create("lists/a.csv", b"id,uri\n1,x\n")
    assert [item.video_id for item in listed(f"{s3_bucket}/lists", "list")[0]] == ["1"]
    assert [item.video_id for item in listed(s3_bucket, "list")[0]] == ["1"]
