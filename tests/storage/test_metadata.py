"""The owner's table, in each of its formats."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import UserError
from records.items import Metadata
from storage.metadata import read_metadata
from storage.sources import open_source
from storage.stores import Store

WANTED = [
    ("0001", Metadata(title='A "quoted", title\nof two lines', extra={"likes": "3", "genre": "ä"})),
    ("2", Metadata(title="", extra={"likes": "4"})),
]
CSV = '\ufeffitem,title,likes,genre\r\n0001,"A ""quoted"", title\nof two lines",3,ä\r\n2,,4,\r\n'
JSON = (
    '{"video_id": "0001", "title": "A \\"quoted\\", title\\nof two lines", "likes": 3, "genre": "ä"}\n\n'
    '{"video_id": 2, "likes": 4, "genre": null}\n'
)


def test_every_format_gives_the_same(store: Store, tmp_path: Path) -> None:
    store.create("t/meta.csv", CSV.encode())
    store.create("t/meta.tsv", b"id\ttitle\n1\ta,b\n")
    store.create("t/meta.jsonl", JSON.encode())
    table = pa.table({"title": [WANTED[0][1].title, None], "id": ["0001", "2"], "likes": [3, 4], "genre": ["ä", None]})
    pq.write_table(table, tmp_path / "meta.parquet")
    store.create("t/meta.parquet", (tmp_path / "meta.parquet").read_bytes())
    for name in ("meta.csv", "meta.jsonl", "meta.parquet"):
        assert list(read_metadata(store.uri(f"t/{name}"))) == WANTED, name
    assert list(read_metadata(store.uri("t/meta.tsv"))) == [("1", Metadata(title="a,b"))]


def test_a_table_without_titles_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in (
        ("named.csv", "id,name\na,A name\n"),
        ("later.jsonl", '{"id": "a"}\n{"id": "b", "title": "t"}\n'),
    ):
        (tmp_path / name).write_text(text)
        list(read_metadata(str(tmp_path / name)))
    (said,) = [record.getMessage() for record in caplog.records]
    assert "named.csv has no column 'title'" in said
    assert "id, name" in said


@pytest.mark.parametrize("text", ["", "video_id,title\n"])
def test_a_table_without_rows_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    (tmp_path / "titles.csv").write_text(text)
    assert list(read_metadata(str(tmp_path / "titles.csv"))) == []
    assert "titles.csv has no rows: nothing was taken from it" in caplog.text


def test_columns_are_found_whatever_their_case(tmp_path: Path) -> None:
    wanted = [("1", Metadata(title="A", extra={"Views": "3"}))]
    for header in ("Video_ID,Title,Views", "id,TITLE,Views", "Item,title,Views"):
        (tmp_path / "m.csv").write_text(f"{header}\n1,A,3\n")
        assert list(read_metadata(str(tmp_path / "m.csv"))) == wanted
    (tmp_path / "1.mp4").write_bytes(b"x")
    assert list(open_source(str(tmp_path)).titles()) == []
    source = open_source(str(tmp_path))
    list(source.items())
    assert list(source.titles()) == wanted, "beside the files too"
    (tmp_path / "m.jsonl").write_text('{"ID": 1, "Title": "A"}\n{"title": "B", "id": 2, "n": null}\n')
    assert list(read_metadata(str(tmp_path / "m.jsonl"))) == [("1", Metadata(title="A")), ("2", Metadata(title="B"))]


def test_a_file_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meta.csv").write_text("id,title\n1,x\n")
    monkeypatch.chdir(tmp_path)
    assert list(read_metadata("meta.csv")) == [("1", Metadata(title="x"))]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "name,title\nx,y\n", "row 1 has no column video_id or item or id"),
        ("a.csv", "id,title\nx,y\n,z\n", "row 2 has an empty id"),
        ("a.csv", "id,title\nx,y,z\n", "row 1 cannot be read: more cells"),
        ("a.jsonl", '{"id": 1}\n{"id": \n', "row 2 cannot be read: Expecting value$"),
        ("a.jsonl", '{"id": 1}\n[1]\n', "row 2 cannot be read: not an object"),
        ("a.csv", "id,title\n1,\udcff\n", "row 1 cannot be read"),
        ("a.txt", "", "must be one of .csv, .tsv, .parquet, .jsonl, .ndjson by its name or its first line$"),
        ("a.txt", "titles\nof videos\n", "no table that can be read"),
        ("a.json", '[{"id": 1, "title": "x"}]', "no table that can be read"),
        ("a.parquet", "nonsense that is no parquet", "row 1 cannot be read"),
    ],
)
def test_mistakes_name_the_row(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=words) as caught:
        list(read_metadata(str(tmp_path / name)))
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_metadata(str(tmp_path / "absent.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder.csv: this is a folder, not a file"):
        read_metadata(str(tmp_path / "folder.csv"))
