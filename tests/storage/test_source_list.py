"""Lists of ids and URIs, in each format: the same items with the same metadata, and one line for what is wrong."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import BadItemError, FailureKind, UserError
from records.items import CatalogItem, Metadata
from storage.fetch import FetchConfig, Fetcher
from storage.line_files import MAX_CELL_CHARACTERS
from storage.source_items import SourceItem
from storage.stores import Store
from tests.storage.listings import listed
from tests.web import WebServer

ROWS = [
    {"video_id": "a/1", "uri": "clips/a.mp4", "title": 'A "title", of\ntwo lines', "views": "12", "size_bytes": "3"},
    {"video_id": "2", "uri": "s3://other/b.mp4", "title": "", "views": "", "size_bytes": ""},
    {"video_id": "ä", "uri": "https://host/c.mp4?sig=x&sv=1", "title": "C", "views": "3", "size_bytes": "0"},
]


def csv_of(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    quoted = [[f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row.values()] for row in rows]
    return "\r\n".join(delimiter.join(line) for line in [list(rows[0]), *quoted]).encode()


def parquet_of(folder: Path, rows: list[dict[str, str]]) -> bytes:
    columns = {name: [row[name] or None for row in rows] for name in rows[0]}
    table = pa.table({**columns, "size_bytes": pa.array([3, None, 0], pa.int64()), "thumbnail": [b"x", b"y", b"z"]})
    pq.write_table(table, folder / "list.parquet")
    return (folder / "list.parquet").read_bytes()


def test_every_format_lists_the_same(store: Store, tmp_path: Path) -> None:
    store.create("l/list.csv", b"\xef\xbb\xbf" + csv_of(ROWS))
    store.create("l/list.tsv", csv_of(ROWS, "\t"))
    store.create("l/list.jsonl", "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode())
    store.create("l/list.ndjson", "\n".join(json.dumps(row) for row in ROWS).encode())
    store.create("l/list.parquet", parquet_of(tmp_path, ROWS))
    wanted = [
        SourceItem(
            video_id="a/1",
            uri=store.uri("l/clips/a.mp4"),
            size_bytes=3,
            etag="",
            metadata=Metadata(title=ROWS[0]["title"], extra={"views": "12"}),
        ),
        SourceItem(video_id="2", uri="s3://other/b.mp4", size_bytes=None, etag="", metadata=Metadata()),
        SourceItem(
            video_id="ä",
            uri="https://host/c.mp4?sig=x&sv=1",
            size_bytes=0,
            etag="",
            metadata=Metadata(title="C", extra={"views": "3"}),
        ),
    ]
    for name in ("csv", "tsv", "jsonl", "ndjson"):
        assert listed(store.uri(f"l/list.{name}")) == (wanted, {}), name
    # With a column of bytes beside the URIs somebody must say which is meant.
    with pytest.raises(UserError, match=r"has URIs and a column of bytes: say which with --format"):
        listed(store.uri("l/list.parquet"))
    assert listed(store.uri("l/list.parquet"), "list") == (wanted, {})


def test_a_folder_of_lists(store: Store) -> None:
    for number in range(3):
        store.create(f"lists/part-{number}.csv", f"id,url\n{number},{number}.mp4\n".encode())
    store.create("lists/_SUCCESS.csv", b"")
    items, _ = listed(store.uri("lists"), "list")
    assert [(item.video_id, item.uri) for item in items] == [
        (str(number), store.uri(f"lists/{number}.mp4")) for number in range(3)
    ]
    assert items[0].metadata is None, "a list without further columns says nothing of its items"
    with pytest.raises(UserError, match="no media files"):
        listed(store.uri("lists"))


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("a.mp4", "/lists/a.mp4"),
        ("./b/a.mp4", "/lists/b/a.mp4"),
        ("../a.mp4", "/a.mp4"),
        ("/elsewhere/a.mp4", "/elsewhere/a.mp4"),
        ("file:///elsewhere/a.mp4", "file:///elsewhere/a.mp4"),
        ("a%20b?.mp4", "/lists/a%20b?.mp4"),
    ],
)
def test_relative_uris(tmp_path: Path, uri: str, wanted: str) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.csv").write_text(f"id,uri\n1,{uri}\n")
    ((item,), _) = listed(str(tmp_path / "lists" / "l.csv"))
    assert item.uri == (wanted if "elsewhere" in wanted else f"{tmp_path}{wanted}")


def test_relative_uris_in_a_bucket(s3_bucket: str) -> None:
    Store.open(s3_bucket).create("lists/l.csv", b"id,uri\n1,../videos/a.mp4\n2,b.mp4\n")
    items, _ = listed(f"{s3_bucket}/lists/l.csv")
    assert [item.uri for item in items] == [f"{s3_bucket}/videos/a.mp4", f"{s3_bucket}/lists/b.mp4"]


def test_columns_by_the_users_names(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("ID,Clip,Location,Name\n9,1,a.mp4,T\n")
    ((item,), _) = listed(str(tmp_path / "l.csv"), columns="id=Clip,uri=Location,title=Name")
    assert (item.video_id, item.metadata) == ("1", Metadata(title="T", extra={"ID": "9"}))
    with pytest.raises(
        UserError, match="no column uri or url or path or file_name among ID, Clip, Location, Name; name"
    ):
        listed(str(tmp_path / "l.csv"))


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("video,uri\n1,a\n", "", "no column video_id or item or id among video, uri; did you mean --columns id=video"),
        ("id,urls\n1,a\n", "", "did you mean --columns uri=urls"),
        ("video_id;url\n1;a\n", "", "among video_id;url; the cells of .* here they have ';'$"),
        ("id,uri\n1,a\n", "id=clip", "no column clip among id, uri"),
        ("id,uri\n1,a\n", "title=titel", "no column titel among id, uri"),
        ("id,uri\n", "", "no lines with an id and a URI in it"),
        ("", "", "no lines with an id and a URI in it"),
        ("id,uri\n1,a,b\n", "", "row 1 cannot be read: more cells"),
        ("id,uri,title, title\n1,a,b,c\n", "", "l.csv: several columns are named 'title'$"),
        ("id,uri,size_bytes\n1,a,big\n", "", "size_bytes is no whole number: 'big'"),
        ("id,uri\n1,\n2\n", "", r"no lines with an id and a URI in it \(no_uri: .*row 1\)"),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, text: str, columns: str, words: str) -> None:
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        listed(str(tmp_path / "l.csv"), columns=columns)
    assert "\n" not in str(caught.value)


def test_spaces_around_names_long_cells_and_columns_without_a_name(tmp_path: Path) -> None:
    notes = "x" * 1_000_000
    (tmp_path / "l.csv").write_text(f"id, uri , notes,,\n1,a.mp4,{notes},,\n")
    ((item,), _) = listed(str(tmp_path / "l.csv"))
    assert (item.uri, item.metadata) == (f"{tmp_path}/a.mp4", Metadata(extra={"notes": notes}))
    (tmp_path / "l.csv").write_text(f"id,uri,notes\n1,a.mp4,{'x' * (MAX_CELL_CHARACTERS + 1)}\n")
    with pytest.raises(UserError, match="row 1 cannot be read: field larger than field limit"):
        listed(str(tmp_path / "l.csv"))


@pytest.mark.parametrize(
    ("ids", "uris", "words"),
    [
        (pa.array([1.0, None]), ["a", "b"], "column id is double, and an id is text or a whole number"),
        (pa.array([["a"], ["b"]]), ["a", "b"], "column id is list<.*>, and an id is text or a whole number"),
        (pa.array([b"a", b"b"]), ["a", "b"], "column id is binary, and an id is text or a whole number"),
        (pa.array([True, False]), ["a", "b"], "column id is bool, and"),
        (["1", "2"], pa.array([1, 2]), "column uri is int64, and a URI is text"),
        (["1", "2"], pa.array([["a"], ["b"]]), "column uri is list<.*>, and a URI is text"),
        (["1", "2"], pa.array([b"a", b"b"]), "column uri is binary, and a URI is text"),
    ],
)
def test_parquet_columns_of_the_wrong_type_are_named(tmp_path: Path, ids: object, uris: object, words: str) -> None:
    pq.write_table(pa.table({"id": ids, "uri": uris}), tmp_path / "l.parquet")
    with pytest.raises(UserError, match=rf"l\.parquet: {words}") as caught:
        listed(str(tmp_path / "l.parquet"), "list")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint8(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_ids_of_other_types_in_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    ids = pa.array([7, None] if pa.types.is_integer(kind) else ["7", None], kind)
    pq.write_table(pa.table({"id": ids, "uri": ["a", "b"], "video_id": [b"x", b"y"]}), tmp_path / "l.parquet")
    items, left_out = listed(str(tmp_path / "l.parquet"), "list")
    assert ([item.video_id for item in items], list(left_out)) == (["7"], ["bad_id"])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('"id": 1.5, "uri": "a"', "column id is float, and an id is text or a whole number"),
        ('"id": NaN, "uri": "a"', "column id is float"),
        ('"id": true, "uri": "a"', "column id is bool"),
        ('"id": ["a"], "uri": "a"', "column id is list"),
        ('"id": "2", "uri": {"path": "a"}', "column uri is dict, and a URI is text"),
        ('"id": "2", "uri": 0', "column uri is int"),
        ('"id": "2", "uri": []', "column uri is list"),
    ],
)
def test_json_values_of_the_wrong_type_name_the_row(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "l.jsonl").write_text(f'{{"id": 1, "uri": "a"}}\n{{{line}}}\n')
    with pytest.raises(UserError, match=rf"l\.jsonl, row 2: {words}"):
        listed(str(tmp_path / "l.jsonl"))
    (tmp_path / "l.jsonl").write_text('{"id": 1, "uri": "a"}\n{"id": null, "uri": "a"}\n{"id": 3, "uri": null}\n')
    items, left_out = listed(str(tmp_path / "l.jsonl"))
    assert ([item.video_id for item in items], set(left_out)) == (["1"], {"bad_id", "no_uri"})


@pytest.mark.parametrize("text", ["id", "id=", "clip=x", "id=a,,"])
def test_columns_are_checked(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="write id=NAME or uri=NAME or title=NAME or bytes=NAME"):
        listed(str(tmp_path / "l.csv"), columns=text)


def test_lines_without_an_id_or_a_uri_are_counted_and_named(tmp_path: Path) -> None:
    lines = [
        "id,uri",
        "1,a",
        ",b",
        "3,",
        '"4\n5",c',
        f"{'x' * 10_000},d",
        f"{'ä' * 512},e",
        f"{'ä' * 513},f",
        "a/b/../c,g",
    ]
    (tmp_path / "l.csv").write_text("\n".join(lines))
    items, left_out = listed(str(tmp_path / "l.csv"))
    assert [item.video_id for item in items] == ["1", "ä" * 512, "a/b/../c"]
    assert {reason: len(names) for reason, names in left_out.items()} == {"bad_id": 2, "no_uri": 1, "long_id": 2}
    assert left_out["no_uri"] == [f"{tmp_path / 'l.csv'}, row 3"]
    assert left_out["bad_id"][1] == "'4\\n5'"
    assert all(len(name) < 80 for name in left_out["long_id"])


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text('{"id": "1", "uri": "a", "title": "x\\ud800y"}\n{"id": "\\ud800", "uri": "a"}\n')
    items, left_out = listed(str(tmp_path / "l.jsonl"))
    assert items[0].metadata == Metadata(title="x\ufffdy")
    assert [item.video_id for item in items] == ["1"]
    assert left_out == {"bad_id": ["'\\ud800'"]}


def test_a_list_on_the_web_and_presigned(web: WebServer) -> None:
    web.signature = "SECRET"
    web.objects["/l/list.csv"] = b"id,uri,title\n1,../v/a.mp4,A\n2,b.mp4,B\n"
    items, _ = listed(web.signed("/l/list.csv", "SECRET"))
    assert [item.uri for item in items] == [web.url("/v/a.mp4"), web.url("/l/b.mp4")]
    with pytest.raises(UserError, match="access refused") as caught:
        listed(web.signed("/l/list.csv", "SECRET-of-yesterday"))
    assert "SECRET" not in str(caught.value)
    web.ranges = False
    with pytest.raises(UserError, match="does not serve ranges"):
        listed(web.signed("/l/list.csv", "SECRET"))
    with pytest.raises(UserError, match="a web server has no listing"):
        listed(web.url("/l/"))
    with pytest.raises(UserError, match="takes no output"):
        Store.open(web.url("/l")).create("x", b"")


def test_what_a_list_says_is_held_against_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"123")
    (tmp_path / "l.csv").write_text("id,uri,size_bytes,etag\n1,a.mp4,3,\n2,a.mp4,4,\n3,a.mp4,,\n4,a.mp4,,1-3\n")
    items, _ = listed(str(tmp_path / "l.csv"))
    fetch = Fetcher(FetchConfig())

    def read(number: int) -> bytes | FailureKind:
        item = items[number]
        try:
            return fetch(
                CatalogItem(video_id="x", version=1, uri=item.uri, size_bytes=item.size_bytes, etag=item.etag)
            ).read_bytes()
        except BadItemError as error:
            return error.kind

    assert [read(number) for number in range(4)] == [b"123", FailureKind.CHANGED, b"123", FailureKind.CHANGED]


def test_a_long_list_is_streamed_in_large_reads(s3_server: object, s3_bucket: str) -> None:
    lines = [f"{number:07d},videos/{number:07d}.mp4,title {number}\n" for number in range(60_000)]
    Store.open(s3_bucket).create("l.csv", ("id,uri,title\n" + "".join(lines)).encode())
    start = len(s3_server.requests)  # type: ignore[attr-defined]
    items, _ = listed(f"{s3_bucket}/l.csv")
    assert len(items) == 60_000
    assert len(s3_server.requests) - start < 16, "2.6 MB take no 40 requests of 64 kB"  # type: ignore[attr-defined]
