"""Parquet with the videos in a column: every row's own bytes, each row group read once, and wrong types named."""

import itertools
import random
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.errors import BadItemError, FailureKind, UserError
from records.items import CatalogItem, Metadata
from storage.fetch import FetchConfig, Fetcher
from storage.fetch_room import SpillConfig
from storage.source_items import SourceItem
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.conftest import QUICK
from tests.storage.listings import listed
from tests.web import WebServer


def item_of(item: SourceItem) -> CatalogItem:
    return CatalogItem(
        video_id=item.video_id,
        version=1,
        uri=item.uri,
        size_bytes=item.size_bytes,
        etag=item.etag,
        row_index=item.row_index,
        column=item.column,
    )


def written(folder: Path, table: pa.Table, **options: object) -> bytes:
    pq.write_table(table, folder / "written.parquet", **options)  # type: ignore[arg-type]
    return (folder / "written.parquet").read_bytes()


STRUCT = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""A video as Hugging Face `datasets` write it."""

TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
cells = st.none() | st.binary(max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(cells, min_size=1, max_size=40),
    group=st.integers(1, 20),
    page=st.sampled_from([1, 64, 1024**2]),
    compression=st.sampled_from(["none", "snappy", "zstd"]),
    dictionary=st.booleans(),
    kind=st.sampled_from(["binary", "large_binary", "binary_view", "struct"]),
    ids=st.sampled_from(TEXTS),
    order=st.randoms(),
)
def test_every_row_gives_its_own_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[bytes | None],
    group: int,
    page: int,
    compression: Literal["none", "snappy", "zstd"],
    dictionary: bool,
    kind: str,
    ids: pa.DataType,
    order: random.Random,
) -> None:
    folder = tmp_path_factory.mktemp("parquet")
    if kind == "struct":
        structs = [
            None if row is None else {"bytes": row, "path": f"v/{number}.mp4"} for number, row in enumerate(rows)
        ]
        videos: Any = pa.array(structs, STRUCT)
    else:
        videos = pa.array(rows, getattr(pa, kind)())
    pq.write_table(
        pa.table({"id": pa.array([str(number) for number in range(len(rows))]).cast(ids), "video": videos}),
        folder / "a.parquet",
        row_group_size=group,
        data_page_size=page,
        compression=compression,
        use_dictionary=dictionary,
    )
    items, _ = listed(str(folder))
    assert [item.row_index for item in items] == list(range(len(rows)))
    fetch = Fetcher(FetchConfig())
    order.shuffle(items)
    for item in items:
        wanted = rows[int(item.video_id)]
        if wanted is None:
            with pytest.raises(BadItemError, match="has nothing in column") as caught:
                fetch(item_of(item))
            assert caught.value.kind is FailureKind.NOT_FOUND
        else:
            assert fetch(item_of(item)).read_bytes() == wanted


def test_metadata_sizes_and_ids(store: Store, tmp_path: Path) -> None:
    table = pa.table(
        {
            "item": pa.array([7, 8], pa.int32()),
            "mp4": [b"one", b"two"],
            "title": ["A", None],
            "views": [3, 4],
            "tags": [["x"], None],
            "size_bytes": [3, None],
        }
    )
    store.create("p/a.parquet", written(tmp_path, table))
    items, left_out = listed(store.uri("p"))
    assert left_out == {}
    assert [(item.video_id, item.column, item.size_bytes, item.metadata) for item in items] == [
        ("7", "mp4", 3, Metadata(title="A", extra={"views": "3", "tags": '["x"]'})),
        ("8", "mp4", None, Metadata(title="", extra={"views": "4"})),
    ]
    fetch = Fetcher(FetchConfig())
    assert [fetch(item_of(item)).read_bytes() for item in items] == [b"one", b"two"]


def test_ids_from_the_paths_of_a_hugging_face_column(tmp_path: Path) -> None:
    videos = pa.array([{"bytes": b"1", "path": "d/a.b.mp4"}, {"bytes": b"2", "path": None}, None], STRUCT)
    pq.write_table(pa.table({"video": videos, "label": [1, 2, 3]}), tmp_path / "a.parquet")
    items, left_out = listed(str(tmp_path / "a.parquet"))
    assert [(item.video_id, item.column) for item in items] == [("d/a.b", "video.bytes")]
    assert len(left_out["bad_id"]) == 2
    assert Fetcher(FetchConfig())(item_of(items[0])).read_bytes() == b"1"


@pytest.mark.parametrize(
    ("columns", "given", "words"),
    [
        ({"id": ["1"], "video": ["x"]}, "", "no column holds bytes: id is string, video is string"),
        ({"id": ["1"], "video": ["x"], "other": [b"x"]}, "bytes=video", "column video is string, not bytes"),
        ({"id": ["1"], "video": [b"x"]}, "bytes=vid", "there is no column vid among id, video"),
        ({"id": ["1"], "video": [b"x"], "cover": [b"x"]}, "", "video and cover hold bytes: say which with --columns"),
        ({"id": [1.5], "video": [b"x"]}, "", "the ids in column id are double, neither text nor whole numbers"),
        ({"id": [["1"]], "video": [b"x"]}, "", r"the ids in column id are list<.*>, neither"),
        ({"key": ["1"], "video": [b"x"]}, "", "no column video_id or item or id among key; name it with --columns id="),
        ({"id": ["1"], "video": [b"x"], "size_bytes": ["3"]}, "", "row 0: size_bytes is no whole number"),
        ({"id": ["1"], "video": [b"x"], "size_bytes": [-1]}, "", "row 0: size_bytes is no whole number of bytes: -1"),
        ({"id": pa.array([], pa.string()), "video": pa.array([], pa.binary())}, "", "no rows in .parquet files"),
    ],
)
def test_wrong_types_get_one_line(tmp_path: Path, columns: dict[str, object], given: str, words: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=words) as caught:
        listed(str(tmp_path / "a.parquet"), "parquet", given)
    assert "\n" not in str(caught.value)


def test_a_broken_file_among_others(tmp_path: Path) -> None:
    for name in ("a", "c"):
        pq.write_table(pa.table({"id": [name], "video": [b"x"]}), tmp_path / f"{name}.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    items, left_out = listed(str(tmp_path))
    assert [item.video_id for item in items] == ["a", "c"]
    assert "b.parquet: " in left_out["broken_file"][0]
    with pytest.raises(UserError, match="no Parquet file that can be read"):
        listed(str(tmp_path / "b.parquet"))


def group_file(folder: Path, rows: int, size: int) -> tuple[bytes, list[bytes]]:
    chosen = random.Random(1)
    videos = [chosen.randbytes(size) for _ in range(rows)]
    table = pa.table({"id": [str(number) for number in range(rows)], "video": videos})
    return written(folder, table, row_group_size=rows // 2, data_page_size=100_000, compression="none"), videos


def test_a_row_group_is_read_once_by_all_threads_of_a_worker(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    data, videos = group_file(tmp_path, 40, 50_000)
    Store.open(s3_bucket).create("a.parquet", data)
    items, _ = listed(f"{s3_bucket}/a.parquet")
    start = len(s3_server.requests)
    fetch = Fetcher(FetchConfig())
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda item: fetch(item_of(item)).read_bytes(), items)) == videos
    requests = len(s3_server.requests) - start
    assert requests <= 12, "a look, the footer, and some reads for each of two row groups, not one for each of 40 rows"


def test_least_used_row_groups_make_room_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, videos = group_file(tmp_path, 40, 1000)
    (tmp_path / "a.parquet").write_bytes(data)
    items, _ = listed(str(tmp_path / "a.parquet"))
    loads = itertools.count()
    fetch = Fetcher(FetchConfig(parquet_disk_bytes=1))
    load = fetch._cells._load
    monkeypatch.setattr(fetch._cells, "_load", lambda *a: (next(loads), load(*a))[1])
    assert [fetch(item_of(item)).read_bytes() for item in items] == videos
    assert next(loads) == 2
    assert [fetch(item_of(items[number])).read_bytes() for number in (0, 30, 0)] == [videos[0], videos[30], videos[0]]
    assert next(loads) == 6, "with room for one group each change loads one"


def test_what_changed_or_is_too_large_or_broken(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "video": [b"12345", b"x"]}), file)
    items, _ = listed(str(file))
    item = item_of(items[0])

    def kind(config: FetchConfig, item: CatalogItem) -> FailureKind:
        with pytest.raises(BadItemError) as caught:
            Fetcher(config)(item)
        return caught.value.kind

    assert kind(FetchConfig(max_bytes=4), item) is FailureKind.TOO_LARGE
    pq.write_table(pa.table({"id": ["a"], "video": [b"other"], "more": ["x" * 1000]}), file)
    assert kind(FetchConfig(), item) is FailureKind.CHANGED
    (unknown,) = [
        CatalogItem(video_id="b", version=1, uri=str(file), size_bytes=None, etag="", row_index=1, column="video")
    ]
    assert kind(FetchConfig(), unknown) is FailureKind.CHANGED
    file.write_bytes(b"PAR1 no Parquet at all PAR1")
    assert kind(FetchConfig(), unknown) is FailureKind.CORRUPT
    file.unlink()
    assert kind(FetchConfig(), unknown) is FailureKind.NOT_FOUND


def test_an_error_reaches_every_thread_that_waits_and_the_next_call_tries_again(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "video": [b"12345"]}), tmp_path / "a.parquet")
    ((item,), _) = listed(str(tmp_path / "a.parquet"))
    fetch = Fetcher(FetchConfig())
    read, started, broken = fetch._cells._read, threading.Event(), True

    def flaky(part: CatalogItem) -> bytes:
        started.set()
        if broken:
            raise BadItemError(FailureKind.UNREACHABLE, "gone")
        return read(part)

    fetch._cells._read = flaky
    for _ in range(2):
        with pytest.raises(BadItemError) as caught:
            fetch(item_of(item))
        assert caught.value.kind is FailureKind.UNREACHABLE
    broken = False
    assert fetch(item_of(item)).read_bytes() == b"12345"


@pytest.mark.parametrize("full_for", [1, 99])
def test_a_full_disk_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_for: int) -> None:
    data, _ = group_file(tmp_path, 3, 200_000)
    (tmp_path / "a.parquet").write_bytes(data)
    items, _ = listed(str(tmp_path / "a.parquet"))
    made, real = [], tempfile.TemporaryFile

    def temporary(prefix: str, dir: str) -> IO[bytes]:
        made.append(dir)
        return open("/dev/full", "w+b") if len(made) <= full_for else real(prefix=prefix, dir=dir)

    monkeypatch.setattr("storage.fetch_parquet.tempfile.TemporaryFile", temporary)
    (tmp_path / "spill").mkdir()
    spill = SpillConfig(folder=str(tmp_path / "spill"))
    fetch = Fetcher(FetchConfig(spill=spill, retry=QUICK))
    if full_for == 1:
        assert fetch(item_of(items[0])).size_bytes == 200_000
    else:
        with pytest.raises(BadItemError, match=f"no room in {spill.folder}.*No space left") as caught:
            fetch(item_of(items[0]))
        assert caught.value.kind is FailureKind.NO_SPACE
    assert len(made) == (2 if full_for == 1 else QUICK.attempts)
    assert set(made) == {spill.folder}


@pytest.mark.parametrize("broken", ["text", "time", "zone"])
def test_cells_that_cannot_be_read_end_a_file_and_not_the_listing(tmp_path: Path, broken: str) -> None:
    lengths = pa.array([0, 2, 4], pa.int32()).buffers()[1]
    columns: dict[str, Any] = {
        "text": pa.Array.from_buffers(pa.string(), 2, [None, lengths, pa.py_buffer(b"ok\xff\xfe")]),
        "time": pa.array([2**61, 0], pa.timestamp("us")),
        "zone": pa.array([1, 2], pa.timestamp("us", tz="Mars/Base")),
    }
    (tmp_path / "v").mkdir()
    pq.write_table(pa.table({"id": ["1", "2"], "x": columns[broken], "v": [b"a", b"b"]}), tmp_path / "v" / "a.parquet")
    pq.write_table(pa.table({"id": ["3"], "v": [b"a"]}), tmp_path / "v" / "b.parquet")
    pq.write_table(pa.table({"id": ["1", "2"], "x": columns[broken], "uri": ["a", "b"]}), tmp_path / "l.parquet")
    items, left_out = listed(str(tmp_path / "v"))
    assert [item.video_id for item in items] == ["3"]
    (name,) = left_out["broken_file"]
    assert name.startswith(f"{tmp_path}/v/a.parquet: ")
    with pytest.raises(UserError, match=r"l\.parquet: row 1 cannot be read: ") as caught:
        listed(str(tmp_path / "l.parquet"))
    assert "\n" not in str(caught.value)


def test_parquet_on_the_web(web: WebServer, tmp_path: Path) -> None:
    data, videos = group_file(tmp_path, 10, 20_000)
    web.objects["/a.parquet"] = data
    items, _ = listed(web.url("/a.parquet"))
    fetch = Fetcher(FetchConfig())
    assert [fetch(item_of(item)).read_bytes() for item in items] == videos
