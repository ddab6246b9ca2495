"""A refresh reads no tar or Parquet file again that is as the catalog knows it, and lists as if it had."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.listing import list_into_catalog
from pipeline.reader import live_items
from storage.catalog import Catalog
from storage.catalog_change import CatalogChange
from storage.catalog_objects import read_objects
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.tars import tar_of


def listing(output: str, source: str, **options: Any) -> CatalogChange:  # noqa: ANN401 - of the function
    given = {"metadata": None, "shard_size": 4, "refresh_known": True, **options}
    change = list_into_catalog(Store.open(output), source=source, **given)
    assert change is not None
    return change


def opened(output: str) -> Catalog:
    found = Catalog.open(Store.open(output))
    assert found is not None
    return found


def content(output: str) -> dict[str, tuple[object, ...]]:
    catalog = opened(output)
    return {
        item.video_id: (item, catalog.newest_metadata(shard_id).get(item.key))
        for shard_id in catalog.shard_ids()
        for item in live_items(catalog, shard_id)
    }


def forget(output: Path) -> None:
    """As a catalog of before: every file is read again."""
    for path in output.glob("catalog/index/*/objects.parquet"):
        path.unlink()


def tar(folder: Path, name: str, members: dict[str, bytes], moment: int) -> None:
    path = tar_of(folder / name, members)
    os.utime(path, ns=(moment, moment))


tars = st.dictionaries(
    st.sampled_from(["a.tar", "b.tar", "c.tar"]),
    st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["one", "two", ""]), max_size=3),
    min_size=1,
)
tables = st.none() | st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["theirs", "other"]), min_size=1)


@settings(max_examples=15, deadline=None)
@given(history=st.lists(st.tuples(st.none() | tars, tables), min_size=2, max_size=4))
def test_any_history_lists_as_if_every_tar_were_read_again(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[dict[str, dict[str, str]] | None, dict[str, str] | None]],
) -> None:
    """Ids come and go, repeat in other tars, and are named by tables of titles."""
    base = tmp_path_factory.mktemp("history")
    source, trusting, reading = base / "tars", base / "trusting", base / "reading"
    before: dict[str, dict[str, str]] = {}
    tar(source, "0.tar", {"first.mp4": b"so that there is one"}, 1)
    for moment, (drawn, table) in enumerate(history, start=2):
        state = before if drawn is None else drawn
        for gone in before.keys() - state.keys():
            (source / gone).unlink()
        for name, samples in state.items():
            if before.get(name) != samples:
                members = {f"{key}.mp4": key.encode() for key in samples}
                titles = {
                    f"{key}.json": json.dumps({"title": title}).encode() for key, title in samples.items() if title
                }
                tar(source, name, dict(sorted((members | titles).items())), moment)
        before = state
        metadata = None
        if table is not None:
            (base / "titles.jsonl").write_text(
                "".join(json.dumps({"video_id": key, "title": title}) + "\n" for key, title in table.items())
            )
            metadata = str(base / "titles.jsonl")
        forget(reading)
        changes = [listing(str(output), str(source), metadata=metadata) for output in (trusting, reading)]
        assert changes[0] == changes[1]
        assert content(str(trusting)) == content(str(reading))


def test_on_s3_only_the_changed_tar_is_read(s3_server: S3Server, tmp_path: Path) -> None:
    bucket, output = s3_server.bucket(), str(tmp_path / "out")
    name = bucket.removeprefix("s3://")
    client = s3_server.client()

    def put(tars: range, text: bytes) -> None:
        for number in tars:
            path = tar_of(
                tmp_path / "x.tar",
                {f"{number}-{n}.{kind}": text for n in range(5) for kind in ("mp4", "txt")},
            )
            client.put_object(Bucket=name, Key=f"tars/{number}.tar", Body=path.read_bytes())

    def read_by_listing() -> tuple[CatalogChange, set[str]]:
        before = len(s3_server.requests)
        change = listing(output, f"{bucket}/tars", source_format="webdataset")
        gets = {path.rpartition("/")[2] for method, path in s3_server.requests[before:] if path.endswith(".tar")}
        return change, gets

    put(range(4), b"text")
    change, read = read_by_listing()
    assert (change.new, len(read)) == (20, 4)
    change, read = read_by_listing()
    assert (change.revision, change.unchanged, read) == (1, 20, set())
    put(range(2, 3), b"another text")
    change, read = read_by_listing()
    assert (change.changed, change.unchanged, read) == (5, 15, {"2.tar"})
    assert sum(one.items for one in read_objects(Store.open(output), opened(output).index_folder).values()) == 20
    client.delete_object(Bucket=name, Key="tars/0.tar")
    change, read = read_by_listing()
    assert (change.deleted, change.unchanged, read) == (5, 15, set())


def test_parquet_files_are_read_again_where_other_columns_are_asked_for(tmp_path: Path) -> None:
    source, output = tmp_path / "videos", str(tmp_path / "out")
    source.mkdir()
    table = pa.table({"id": ["a", "b"], "video": [b"1", b"2"], "title": ["t", "u"], "name": ["n", "m"]})
    pq.write_table(table, source / "0.parquet")
    assert listing(output, str(source)).new == 2
    again = listing(output, str(source), columns="title=name")
    assert (again.unchanged, again.metadata_changed) == (2, 2)


def test_a_tar_of_which_something_is_left_out_is_read_again_and_counted_again(tmp_path: Path) -> None:
    source, output = tmp_path / "tars", str(tmp_path / "out")
    tar_of(source / "a.tar", {"x.mp4": b"1", "x.json": b"no JSON"})
    tar_of(source / "b.tar", {"y.mp4": b"1"})
    assert listing(output, str(source)).left_out == {"bad_metadata": 1}
    known = read_objects(Store.open(output), opened(output).index_folder)
    assert [Path(uri).name for uri in known] == ["b.tar"]
    assert listing(output, str(source)).left_out == {"bad_metadata": 1}
