"""What a listing yields, whatever the format of its source: items, and what was left out of them and why."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from records.items import Metadata

MAX_ID_BYTES = 1024
"""Longest id, in UTF-8: S3's own limit on a key."""

VIDEO_EXTENSIONS = ("mp4", "mkv", "webm", "mov", "avi", "m4v", "mpg", "mpeg", "ts", "flv", "wmv", "3gp", "ogv")
AUDIO_EXTENSIONS = ("flac", "mp3", "wav", "m4a", "ogg", "opus", "aac")
MEDIA_EXTENSIONS = frozenset(VIDEO_EXTENSIONS + AUDIO_EXTENSIONS)


class LeftOutReason(StrEnum):
    """Why something in a source became no item."""

    REPEATED_ID = "repeated_id"
    """An earlier item of the listing has its id."""
    BAD_ID = "bad_id"
    """The id is empty, holds control characters (a line break is one) or is no valid Unicode."""
    LONG_ID = "long_id"
    """The id is longer than `MAX_ID_BYTES`."""
    NO_URI = "no_uri"
    """The line of a list names no object."""
    UNSAFE_NAME = "unsafe_name"
    """The member of a tar has an absolute name or one with `..`."""
    LINK = "link"
    """The member of a tar is a link."""
    NOT_A_FILE = "not_a_file"
    """The member of a tar is a device or a pipe."""
    SPARSE = "sparse"
    """The member of a tar is a sparse file: no range of bytes holds its content."""
    TRUNCATED = "truncated"
    """The tar ends inside the member."""
    BAD_METADATA = "bad_metadata"
    """What lies beside an item cannot be read; the item itself is kept."""
    BROKEN_FILE = "broken_file"
    """The rest of this tar or Parquet file cannot be read, or its name is no Unicode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceItem:
    """One video, or sound, of a source."""

    video_id: str
    uri: str
    """As it is opened: a presigned URL with its signature."""
    size_bytes: int | None
    """None where that takes reading it."""
    etag: str
    """What the store says of the content; for local files time of change and size; empty where unknown."""
    byte_offset: int | None = None
    """Start of a member inside a larger object, or None for the whole object."""
    row_index: int | None = None
    """Row of a Parquet file, from 0, or None."""
    column: str = ""
    """The column of that file that holds the bytes."""
    metadata: Metadata | None = None
    """What the source itself says of the item; None where this kind of source says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something of a source that became no item: counted, and the first few named."""

    reason: LeftOutReason
    name: str
    """Where it is: an id, a member, a line. Without line breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObject:
    """A file of many items, behind the last of them; or in their place, where the catalog has them as they are."""

    uri: str
    etag: str
    size_bytes: int
    read_as: str
    """What else decided which items it has."""
    items: int
    kept: bool = False
    """Whether it was not read: all items that the catalog has of it are in it still."""


Listing = Iterable[SourceItem | LeftOut | ListedObject]


def with_checked_ids(listing: Listing) -> Iterator[SourceItem | LeftOut | ListedObject]:
    """The listing, with items whose id cannot be kept as it is turned into what was left out."""
    for entry in listing:
        reason = _wrong_id(entry.video_id) if isinstance(entry, SourceItem) else None
        if reason is not None and isinstance(entry, SourceItem):
            yield LeftOut(reason=reason, name=shown(entry.video_id))
        else:
            yield entry


def _wrong_id(video_id: str) -> LeftOutReason | None:
    if video_id.isascii() and video_id.isprintable():
        if not video_id:
            return LeftOutReason.BAD_ID
        return LeftOutReason.LONG_ID if len(video_id) > MAX_ID_BYTES else None
    # Control characters, line and paragraph separators, and lone surrogates.
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs") for letter in video_id):
        return LeftOutReason.BAD_ID
    return LeftOutReason.LONG_ID if len(video_id.encode()) > MAX_ID_BYTES else None


def shown(name: str, most: int = 60) -> str:
    """A name for a log line: quoted, on one line, and cut in the middle where it is long."""
    if len(name) > most:
        name = f"{name[: most // 2]}…{name[-most // 3 :]}"
    return f"'{''.join(char if char.isprintable() else _escaped(char) for char in name)}'"


def _escaped(char: str) -> str:
    """A character as it is written in code; a byte of a file's name that is no Unicode as that byte."""
    byte = ord(char) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(char)[1:-1]


def media_extension(name: str) -> str:
    """The extension of a media file's name in lower case, or an empty string where it is none."""
    _, dot, extension = name.rpartition(".")
    extension = extension.lower()
    return extension if dot and extension in MEDIA_EXTENSIONS else ""
