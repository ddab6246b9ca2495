"""Rows for the tests of stages."""

from collections.abc import Mapping

from records.errors import Failure
from records.items import CatalogItem, Metadata, Row
from records.media import Audio, Frames
from records.outcomes import Outcome


def make_row(
    video_id: str = "a",
    *,
    audio: Audio | None = None,
    frames: Frames | None = None,
    title: str = "",
    outcomes: Mapping[str, Outcome | Failure] | None = None,
) -> Row:
    """A row of an item that is nowhere stored."""
    item = CatalogItem(video_id=video_id, version=1, uri=f"memory://{video_id}.mp4", size_bytes=1, etag="1")
    return Row(item=item, metadata=Metadata(title=title), frames=frames, audio=audio, outcomes=outcomes or {})
