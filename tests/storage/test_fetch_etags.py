"""ETags that say nothing of an item's content, or something wrong for once: they cost no item."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.fetch import FetchConfig, Fetcher
from storage.fetch_local import LocalReader
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
