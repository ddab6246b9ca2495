"""ETags that say nothing of an item's content, or something wrong for once: they cost no item."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.etags import differ, is_local
from storage.fetch import FetchConfig, Fetcher
from storage.fetch_local import LocalReader
from storage.fetch_room import SpillConfig
from storage.stores import Store
from tests.storage.conftest import QUICK
from tests.storage.listings import listed

CONFIG = FetchConfig(retry=QUICK)


@pytest.mark.parametrize("garbled", [1, 99])
def test_one_garbled_etag_of_a_parquet_file_costs_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, garbled: int
) -> None:
    pq.write_table(pa.table({"id": ["a"], "video": [b"12345"]}), tmp_path / "a.parquet")
    ((listed_item,), _) = listed(str(tmp_path / "a.parquet"))
    item = CatalogItem(
        video_id="a", version=1, uri=listed_item.uri, size_bytes=5, etag=listed_item.etag, row_index=0, column="video"
    )
    looks, real = [], LocalReader.facts

    def facts(reader: LocalReader, uri: str) -> tuple[int, str]:
        looks.append(uri)
        size_bytes, etag = real(reader, uri)
        return size_bytes, "1-1" if len(looks) <= garbled else etag

    monkeypatch.setattr(LocalReader, "facts", facts)
    if garbled == 1:
        assert Fetcher(CONFIG)(item).read_bytes() == b"12345"
    else:
        with pytest.raises(BadItemError, match="ETag 1-1 where the catalog has") as caught:
            Fetcher(CONFIG)(item)
        assert caught.value.kind is FailureKind.CHANGED
    assert len(looks) == 2


MD5 = "827ccb0eea8a706c4c34a16891f84e7b"
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (MD5, MD5, False),
        (MD5, "other", True),
        (MD5, "", False),
        ("", MD5, False),
        (MD5, DATE, False),
        (DATE, "Thu, 22 Oct 2015 07:28:00 GMT", True),
        ("1700000000.000000-5", MD5, False),
        ("1700000000.000000-5", "1700000000.000000-6", True),
        ("61234567-1024", "5f3a1c22-1a2b", True),  # nginx's own
    ],
)
def test_etags_of_one_kind_are_compared(one: str, other: str, wanted: bool) -> None:
    assert differ(one, other) is differ(other, one) is wanted


def test_which_etags_may_be_those_of_local_files() -> None:
    assert [is_local(etag) for etag in ("1764200000000000000-5", "0-5", "-1-5")] == [True] * 3
    assert not any(is_local(etag) for etag in (MD5, f"{MD5}-5", f"{'1' * 32}-5", DATE, "other", ""))


@pytest.mark.parametrize("above_bytes", [0, 1000])
def test_what_a_list_says_of_files_without_an_etag_is_unknown(tmp_path: Path, above_bytes: int) -> None:
    """Such items were `changed` at each try."""
    (tmp_path / "a.mp4").write_bytes(b"12345")
    memory = Store.open("memory://etags")
    memory.create("a.mp4", b"12345")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))  # it sends Last-Modified alone
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        uris = ("a.mp4", f"http://127.0.0.1:{server.server_port}/a.mp4", memory.uri("a.mp4"))
        (tmp_path / "l.csv").write_text("".join(["id,uri,etag\n", *(f"{uri[:5]},{uri},{MD5}\n" for uri in uris)]))
        items, _ = listed(str(tmp_path / "l.csv"))
        fetch = Fetcher(FetchConfig(retry=QUICK, spill=SpillConfig(above_bytes=above_bytes)))
        for item in items:
            known = CatalogItem(video_id="a", version=1, uri=item.uri, size_bytes=5, etag=item.etag)
            with fetch(known) as media:
                media.verify()
                assert media.read_bytes() == b"12345"
        server.shutdown()


def test_a_lists_etags_are_kept_as_stores_give_them(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(f'id,uri,etag\n1,a,{MD5}\n2,a,"""{MD5}"""\n3,a,"W/""{MD5}"""\n')
    assert [item.etag for item in listed(str(tmp_path / "l.csv"))[0]] == [MD5] * 3
