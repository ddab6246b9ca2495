"""The estimate of a record's text counts every text in it."""

from records.items import Metadata
from storage.source_items import SourceItem
from storage.text_size import text_length


def test_every_text_counts_and_numbers_do_not() -> None:
    item = SourceItem(
        video_id="12", uri="345", size_bytes=10**9, etag="6", metadata=Metadata(title="78", extra={"9": "10", "": ""})
    )
    assert text_length(item) == 2 + 3 + 1 + 2 + 1 + 2
    assert text_length((5, item, [None, "ä", {"k": ("v",)}, b"bytes"])) == text_length(item) + 1 + 1 + 1
    assert text_length(SourceItem(video_id="", uri="", size_bytes=None, etag="")) == 0
