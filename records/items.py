"""What is known of an item before any stage has run, and the row that stages are handed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from records.errors import Failure
from records.media import Audio, Frames
from records.outcomes import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogItem:
    """One line of the catalog. Identity is (`video_id`, `version`)."""

    video_id: str
    version: int
    """From 1; raised when the content under the same id changes."""
    uri: str
    size_bytes: int | None
    """None where nobody has said it before the item is read."""
    etag: str
    """What the store says of the content (an ETag; mtime and size for local files): a change makes a new version.
    Empty where nobody has said it."""
    byte_offset: int | None = None
    """Start of the member inside a larger object, or None for the whole object."""
    row_index: int | None = None
    """Row of a Parquet file that holds the bytes in a column, from 0, or None."""
    column: str = ""
    """That column, as `video` or `video.bytes`."""

    @property
    def key(self) -> tuple[str, int]:
        """The identity."""
        return (self.video_id, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What the catalogue's owner says of an item."""

    title: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the owner's table, as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One item as a stage sees it. Stages read it and return a record of their own; nobody writes into it."""

    item: CatalogItem
    metadata: Metadata = field(default_factory=Metadata)
    frames: Frames | None = None
    """None where the clip has no video, or no pending stage looks at it."""
    audio: Audio | None = None
    """None where the clip has no sound, or no pending stage listens to it."""
    outcomes: Mapping[str, "Outcome | Failure"] = field(default_factory=dict)
    """Stage name to what that stage made of this item: at least the stages that the called one reads."""
