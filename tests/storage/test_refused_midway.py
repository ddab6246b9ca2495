"""A store that refuses in the middle of a file of items says nothing of the items behind: the listing ends there."""

from collections.abc import Callable
from pathlib import Path
from wsgiref.types import WSGIEnvironment

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import UserError
from storage.catalog import Catalog
from storage.catalog_refresh import refresh
from storage.faults import HttpStatusError
from storage.source_objects import SourceObject, broken_file
from storage.sources import open_source
from storage.store_errors import raise_typed
from storage.stores import Store
from tests.s3 import Gate, S3Server
from tests.storage.listings import listed
from tests.storage.tars import tar_of

VIDEOS = 6
SIZE_BYTES = 300_000


def tar(folder: Path) -> bytes:
    return tar_of(folder / "a.tar", {f"{number}.mp4": bytes(SIZE_BYTES) for number in range(VIDEOS)}).read_bytes()


def parquet(folder: Path) -> bytes:
    ids = [f"{number:04d}" * 40 for number in range(20_000)]
    table = pa.table({"id": ids, "video": [b""] * len(ids)})
    pq.write_table(table, folder / "a.parquet", row_group_size=4000, compression="none", use_dictionary=False)
    return (folder / "a.parquet").read_bytes()


KINDS: dict[str, Callable[[Path], bytes]] = {"tar": tar, "parquet": parquet}


def refusing_the_second_half(size_bytes: int, status: int, code: str) -> Gate:
    def gate(environ: WSGIEnvironment) -> tuple[int, str] | None:
        start, _, end = str(environ.get("HTTP_RANGE", "")).removeprefix("bytes=").partition("-")
        # The footer of a Parquet file is read before.
        behind = (
            bool(start)
            and "/a." in environ["PATH_INFO"]
            and size_bytes // 2 <= int(start)
            and int(end) < size_bytes - 70_000
        )
        return (status, code) if behind else None

    return gate


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "access refused"),
        (400, "ExpiredToken", "access refused"),
        (400, "KMS.DisabledException", r"refuses this \(KMS.DisabledException \(400\)\)"),
    ],
)
def test_no_item_is_deleted_where_the_store_refuses(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, kind: str, status: int, code: str, words: str
) -> None:
    data = KINDS[kind](tmp_path)
    Store.open(s3_bucket).create(f"in/a.{kind}", data)
    out, source = Store.open(str(tmp_path / "out")), f"{s3_bucket}/in"

    def take() -> None:
        refresh(out, open_source(source).items(), None, source, 1000, lambda shard_id: 1)

    take()
    before = Catalog.open(out)
    with s3_server.refusing(refusing_the_second_half(len(data), status, code)), pytest.raises(UserError, match=words):
        take()
    after = Catalog.open(out)
    assert before is not None
    assert after is not None
    assert (after.revision, after.item_count) == (1, before.item_count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("status", "code"), [(404, "NoSuchKey"), (416, "InvalidRange")])
def test_what_is_gone_or_shorter_now_is_left_out(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path, kind: str, status: int, code: str
) -> None:
    data = KINDS[kind](tmp_path)
    for name in "ab":
        Store.open(s3_bucket).create(f"in/{name}.{kind}", data)
    whole, _ = listed(f"{s3_bucket}/in")
    with s3_server.refusing(refusing_the_second_half(len(data), status, code)):
        items, left_out = listed(f"{s3_bucket}/in")
    assert list(left_out) == ["broken_file"]
    assert len(whole) // 2 <= len(items) < len(whole)
    assert items[-len(whole) // 2 :] == whole[-len(whole) // 2 :], "the next file is read"


def test_a_disk_that_fails_is_no_broken_file(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.create("a.tar", b"1")
    source = SourceObject(store=store, entry=store.entry("a.tar"), uri=store.uri("a.tar"))
    with pytest.raises(UserError, match=r"a\.tar cannot be read: ENXIO"):
        broken_file(source, OSError(6, "No such device or address"))
    assert broken_file(source, OSError("a damaged page")).name == f"{source.name}: a damaged page"
    assert broken_file(source, FileNotFoundError(2, "gone")).name == f"{source.name}: ENOENT"


def test_a_web_server_that_refuses_is_told_apart_from_one_without_the_object() -> None:
    root = "https://host/folder/"
    with pytest.raises(UserError, match=r"^https://host/folder/a.tar: the store refuses this \(HTTP 400\)$"):
        raise_typed(root, "a.tar?X-Amz-Signature=s3cr3t", HttpStatusError(400))
    with pytest.raises(FileNotFoundError):
        raise_typed(root, "a.tar", HttpStatusError(404))
    raise_typed(root, "a.tar", HttpStatusError(416))
    raise_typed(root, "a.tar", ValueError("a bug of ours"))


def test_a_listing_without_memory_leaves_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    (tmp_path / "a.parquet").write_bytes(parquet(tmp_path))
    monkeypatch.setattr(pq, "ParquetFile", full)
    with pytest.raises(MemoryError):
        listed(str(tmp_path), format="parquet")
