"""Sources into the catalog and again the next night: what a team has, through one command."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import catalog as catalog_job
from jobs.cli import run_command
from jobs.listing import describe, list_into_catalog
from pipeline.reader import fetchable_items, numbered_items
from records.errors import BadItemError, FailureKind, ReelscribeError, UserError
from records.items import CatalogItem, Metadata
from storage.catalog import Catalog
from storage.catalog_change import CatalogChange
from storage.fetch import FetchConfig, Fetcher
from storage.stores import Store
from tests.storage.catalog_model import revision_of
from tests.storage.tars import tar_of
from tests.web import WebServer


def listing(output: Path, source: Path | str, **options: str | None) -> CatalogChange:
    change = list_into_catalog(
        Store.open(str(output)),
        source=str(source),
        metadata=options.get("metadata"),
        shard_size=2,
        refresh_known=options.get("known") is None,
        source_format=options.get("format"),
        columns=options.get("columns"),
    )
    assert change is not None
    return change


def opened(output: Path) -> Catalog:
    found = Catalog.open(Store.open(str(output)))
    assert found is not None
    return found


def items_of(output: Path, *, fetchable: bool = False) -> dict[str, CatalogItem]:
    catalog = opened(output)
    read = fetchable_items if fetchable else numbered_items
    return {item.video_id: item for shard_id in catalog.shard_ids() for item in read(catalog, shard_id).values()}


def metadata_of(output: Path) -> dict[str, Metadata]:
    catalog = opened(output)
    live = {item.key for item in items_of(output).values()}
    return {
        key[0]: metadata
        for shard_id in catalog.shard_ids()
        for key, metadata in catalog.newest_metadata(shard_id).items()
        if key in live
    }


def test_microlens_as_it_comes(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in (1, 2, 10):
        (folder / f"{number}.mp4").write_bytes(b"x")
    (folder / "titles_en.csv").write_text('item,title\n1,"one, #fun"\n2,two\n99,nobody\n')
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    change = listing(tmp_path / "out", folder)
    assert (change.new, change.metadata_unmatched) == (3, 1)
    assert metadata_of(tmp_path / "out") == {"1": Metadata(title="one, #fun"), "2": Metadata(title="two")}
    (folder / "titles_en.csv").write_text("item,title\n1,changed\n2,two\n")
    assert listing(tmp_path / "out", folder).metadata_changed == 1
    assert metadata_of(tmp_path / "out")["1"].title == "changed"
    (tmp_path / "mine.csv").write_text("video_id,title\n1,mine\n")
    listing(tmp_path / "out", folder, metadata=str(tmp_path / "mine.csv"))
    assert metadata_of(tmp_path / "out")["1"].title == "mine", "a table that was named goes before one that was found"


def test_several_tables_of_titles_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "1.mp4").write_bytes(b"x")
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("item,title\n1,one\n")
    with caplog.at_level(logging.WARNING):
        listing(tmp_path / "out", folder)
    assert "several tables of titles (a.csv, b.csv): none is read; name one with --metadata" in caplog.text
    assert metadata_of(tmp_path / "out") == {}


def test_every_format_through_the_same_catalog(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.mp4").write_bytes(b"12345")
    (tmp_path / "list.csv").write_text("id,uri,title\na,files/a.mp4,A\n")
    tar_of(tmp_path / "tars" / "0.tar", {"a.mp4": b"12345", "a.txt": b"A"})
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.table({"id": ["a"], "title": ["A"], "video": [b"12345"]}), tmp_path / "parquet" / "0.parquet")
    for source, format in (("files", "files"), ("list.csv", "list"), ("tars", "webdataset"), ("parquet", "parquet")):
        output = tmp_path / f"out-{format}"
        assert listing(output, tmp_path / source).new == 1
        assert opened(output).format == format
        (item,) = items_of(output, fetchable=True).values()
        assert Fetcher(FetchConfig())(item).read_bytes() == b"12345"
        assert metadata_of(output) == ({} if format == "files" else {"a": Metadata(title="A")})
        again = listing(output, tmp_path / source)
        assert (again.unchanged, again.new, again.changed, again.revision) == (1, 0, 0, 1)


def test_a_nightly_list_of_urls_signed_anew_makes_no_new_version(
    web: WebServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output, source = tmp_path / "out", tmp_path / "nightly.csv"
    said: list[str] = []

    def night(signature: str, count: int) -> CatalogChange:
        lines = [f"{number},{web.signed(f'/v/{number}.mp4', signature)}\n" for number in range(count)]
        source.write_text("id,url\n" + "".join(lines))
        web.signature = signature
        return listing(output, source)

    def fetched() -> list[bytes | FailureKind]:
        results: list[bytes | FailureKind] = []
        for item in items_of(output, fetchable=True).values():
            try:
                results.append(Fetcher(FetchConfig())(item).read_bytes())
            except BadItemError as error:
                said.append(str(error))
                results.append(error.kind)
        return results

    for number in range(5):
        web.objects[f"/v/{number}.mp4"] = bytes([number])
    with caplog.at_level(logging.DEBUG):
        assert night("SECRET-1", 4).new == 4
        assert fetched() == [bytes([number]) for number in range(4)]
        web.signature = "SECRET-2"
        assert fetched() == [FailureKind.FORBIDDEN] * 4
        second = night("SECRET-2", 5)
        assert (second.new, second.changed, second.deleted, second.unchanged, second.relocated) == (1, 0, 0, 4, 4)
        assert "4 with a new URL" in describe(second)
        assert fetched() == [bytes([number]) for number in range(5)]
        assert {item.version for item in items_of(output).values()} == {1}
        assert night("SECRET-2", 5).revision == 2, "the same signature is no change"
        assert night("SECRET-3", 4).deleted == 1
        assert fetched() == [bytes([number]) for number in range(4)]
    assert "SECRET" not in caplog.text + "".join(said)
    catalog, store = opened(output), Store.open(str(output))
    store.delete(list(catalog.unused_paths()))
    holding = {entry.path.split("/")[1] for entry in store.list() if b"SECRET" in store.read_bytes(entry.path)}
    assert holding == {"locations"}
    assert fetched() == [bytes([number]) for number in range(4)]
    # From here on the objects are public: the last signatures must not be used any more.
    source.write_text("id,url\n" + "".join(f"{number},{web.url(f'/v/{number}.mp4')}\n" for number in range(4)))
    web.signature = None
    assert listing(output, source).relocated == 4
    assert all("Signature" not in item.uri for item in items_of(output, fetchable=True).values())


def test_urls_that_were_not_signed_anew_are_kept(web: WebServer, tmp_path: Path) -> None:
    source = tmp_path / "l.csv"
    signatures = ["SECRET-1", "SECRET-1"]
    for turn in ("SECRET-2", "SECRET-3"):
        lines = [f"{number},{web.signed(f'/{number}', signature)}\n" for number, signature in enumerate(signatures)]
        source.write_text("id,uri\n" + "".join(lines))
        listing(tmp_path / "out", source)
        found = items_of(tmp_path / "out", fetchable=True)
        assert [found[str(number)].uri.rpartition("=")[2] for number in range(2)] == signatures
        signatures[0] = turn


def test_a_presigned_list_is_the_same_source_every_night(web: WebServer, tmp_path: Path) -> None:
    web.objects["/list.csv"] = b"id,uri\n1,a.mp4\n"
    for signature in ("SECRET-1", "SECRET-2"):
        web.signature = signature
        change = listing(tmp_path / "out", web.signed("/list.csv", signature))
    assert (change.unchanged, change.new) == (1, 0)
    assert opened(tmp_path / "out").source == web.url("/list.csv")


def test_what_a_list_comes_to_know_makes_no_new_version_and_what_differs_does(tmp_path: Path) -> None:
    source = tmp_path / "l.csv"
    source.write_text("id,uri\n1,a.mp4\n")
    listing(tmp_path / "out", source)
    source.write_text("id,uri,size_bytes,etag\n1,a.mp4,5,e\n")
    assert listing(tmp_path / "out", source).unchanged == 1
    source.write_text("id,uri,size_bytes,etag\n1,a.mp4,,\n")
    assert listing(tmp_path / "out", source).unchanged == 1
    source.write_text("id,uri,size_bytes,etag\n1,b.mp4,,\n")
    assert listing(tmp_path / "out", source).changed == 1


@pytest.mark.parametrize(("column", "value"), [("size_bytes", "6"), ("etag", "other")])
def test_a_size_or_etag_learned_once_tells_a_change(tmp_path: Path, column: str, value: str) -> None:
    source = tmp_path / "l.csv"
    source.write_text("id,uri\n1,a.mp4\n")
    listing(tmp_path / "out", source)
    source.write_text(f"id,uri,{column}\n1,a.mp4,5\n")
    source.write_text("id,uri,size_bytes,etag\n1,a.mp4,5,e\n")
    assert listing(tmp_path / "out", source).revision == 1, "nothing changed yet, nothing is written"
    source.write_text("id,uri,title\n1,a.mp4,T\n")
    listing(tmp_path / "out", source)
    source.write_text("id,uri,size_bytes,etag,title\n1,a.mp4,5,e,U\n")
    listing(tmp_path / "out", source)
    values = {"size_bytes": "5", "etag": "e"} | {column: value}
    source.write_text(f"id,uri,size_bytes,etag,title\n1,a.mp4,{values['size_bytes']},{values['etag']},U\n")
    assert listing(tmp_path / "out", source).changed == 1


def test_a_table_lies_over_what_the_source_says(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("id,uri,title,views\n1,a.mp4,from the list,3\n2,b.mp4,second,4\n")
    (tmp_path / "t.csv").write_text("id,title,genre\n1,from the table,g\n")
    listing(tmp_path / "out", tmp_path / "l.csv", metadata=str(tmp_path / "t.csv"))
    both = {
        "1": Metadata(title="from the table", extra={"genre": "g", "views": "3"}),
        "2": Metadata(title="second", extra={"views": "4"}),
    }
    assert metadata_of(tmp_path / "out") == both
    (tmp_path / "t.csv").write_text("id,title\n2,edited\n")
    listing(tmp_path / "out", tmp_path / "l.csv", metadata=str(tmp_path / "t.csv"), known="known")
    both["2"] = Metadata(title="edited", extra={"views": "4"})
    assert metadata_of(tmp_path / "out") == both, "without asking the source, over what the catalog has"


def test_what_is_left_out_is_printed_and_kept_in_the_revision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # the command sets its own
    (tmp_path / "l.csv").write_text('id,uri\n1,a\n1,b\n1,c\n"x\ny",d\n2,\n3,e\n')
    code = run_command(
        catalog_job.main, ["--source", str(tmp_path / "l.csv"), "--output", str(tmp_path / "out"), "--shard-size", "9"]
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert "2 new" in printed
    assert "left out as bad_id: 1 ('x\\ny')" in printed
    assert f"left out as no_uri: 1 ({tmp_path / 'l.csv'}, row 5)" in printed
    assert "left out as repeated_id: 2 ('1', '1')" in printed
    assert revision_of(Store.open(str(tmp_path / "out"))).left_out == {"bad_id": 1, "no_uri": 1, "repeated_id": 2}
    assert items_of(tmp_path / "out")["1"].uri.endswith("/a"), "the first counts"


def test_another_source_is_refused_also_where_nothing_is_to_be_listed(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"x")
    listing(tmp_path / "out", tmp_path / "mine")
    store = Store.open(str(tmp_path / "out"))

    def again(source: str | None, source_format: str | None = None) -> CatalogChange | None:
        return list_into_catalog(
            store, source=source, metadata=None, shard_size=2, refresh_known=False, source_format=source_format
        )

    assert again(None) is None
    assert again(str(tmp_path / "mine")) is None
    for source in (tmp_path / "other", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"its catalog lists {tmp_path}/mine, not {source}: choose another output"):
            again(str(source))
    with pytest.raises(UserError, match="with --format files, not parquet"):
        again(str(tmp_path / "mine"), "parquet")


@pytest.mark.parametrize("file", ["revisions/00000001.json", "revisions/*.shards.parquet", "shards/*", "index/*/*"])
def test_a_damaged_file_of_the_catalog_is_named(tmp_path: Path, file: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.mp4").write_bytes(b"x")
    listing(tmp_path / "out", tmp_path / "s")
    (damaged,) = (tmp_path / "out" / "catalog").glob(file)
    damaged.write_bytes(b"{")

    def read_all() -> None:
        listing(tmp_path / "out", tmp_path / "s")
        items_of(tmp_path / "out")

    with pytest.raises(ReelscribeError, match=f"{damaged} is damaged: restore it from a copy") as raised:
        read_all()
    assert "\n" not in str(raised.value)


def test_a_catalog_keeps_its_format(tmp_path: Path) -> None:
    tar_of(tmp_path / "s" / "0.tar", {"a.mp4": b"1"})
    listing(tmp_path / "out", tmp_path / "s")
    (tmp_path / "s" / "b.mp4").write_bytes(b"x")
    assert listing(tmp_path / "out", tmp_path / "s").unchanged == 1, "as it was listed first, whatever lies there now"
    with pytest.raises(UserError, match="with --format webdataset, not files: choose another output"):
        listing(tmp_path / "out", tmp_path / "s", format="files")
    with pytest.raises(UserError, match=r"0.tar \(webdataset\) and b.mp4 \(files\): say which with --format"):
        listing(tmp_path / "other", tmp_path / "s")
    assert listing(tmp_path / "other", tmp_path / "s", format="files").new == 1


def test_a_wrong_format_is_an_argument_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        catalog_job.main(["--source", str(tmp_path), "--output", str(tmp_path / "out"), "--format", "zip"])
    assert caught.value.code == 2
    assert "choose from" in capsys.readouterr().err
