"""What a listing of hours says while it goes on."""

import logging

import pytest

from storage.catalog_refresh import refresh
from storage.source_items import SourceItem
from storage.stores import Store


def test_a_long_listing_says_how_far_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("storage.told.TELL_SECONDS", 0.0)
    items = [SourceItem(video_id=f"{n}", uri=f"s3://b/{n}.mp4", size_bytes=1, etag="e") for n in range(5)]
    with caplog.at_level(logging.INFO, "storage"):
        refresh(store, iter(items), None, "s3://b", 2, lambda shard_id: 1)
    assert "listed 4 so far" in caplog.messages
    assert "compared 1,023 of 1,024 parts with the catalog" in caplog.messages
    assert "wrote 2 files of the catalog's next revision" in caplog.messages, "five items are three shards of two"
