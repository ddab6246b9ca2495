"""What a source holds: its media files as items, and the owner's table of titles.

An item's id is its path relative to the source without the extension: `clips/0042.mp4` is `clips/0042`. A file keeps
its extension where another listed file differs from it in nothing else (`a.mp4` and `a.webm`), or where the name
without it is itself a listed file (`a.mp4` and `a.mp4.mkv`). That depends on which files there are, not on their order.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from records.errors import UserError
from storage.stores import Store

logger = logging.getLogger(__name__)

VIDEO_EXTENSIONS = ("mp4", "mkv", "webm", "mov", "avi", "m4v", "mpg", "mpeg", "ts", "flv", "wmv", "3gp", "ogv")
AUDIO_EXTENSIONS = ("flac", "mp3", "wav", "m4a", "ogg", "opus", "aac")
MEDIA_EXTENSIONS = frozenset(VIDEO_EXTENSIONS + AUDIO_EXTENSIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceItem:
    """One media file of a source."""

    video_id: str
    uri: str
    size_bytes: int
    etag: str
    """What the store says of the content; for local files time of change and size."""
    byte_offset: int | None = None
    """Start of a member inside a larger object, or None for the whole object."""


@dataclass(slots=True)
class _Group:
    """Files that differ in their extension only, while more of them may follow."""

    stem: str
    stem_is_listed: bool
    files: list[SourceItem]
    """Their ids still with extension."""


def list_source(uri: str, extensions: frozenset[str] = MEDIA_EXTENSIONS) -> Iterator[SourceItem]:
    """The media files below a folder or prefix, nearly in order of their paths; files whose path has a part that
    starts with a dot are left out.

    Args:
        uri: A folder or prefix on any store.
        extensions: Lower case, without dot; names are compared without regard to case.

    Raises:
        UserError: There is no such folder, it is a file, or it holds no media.
    """
    store = Store.open(uri)
    first = next(iter(store.list()), None)
    if first is None:
        raise UserError(f"{store.root}: there is no such folder, or nothing in it")
    return _items(store, extensions)


def _items(store: Store, extensions: frozenset[str]) -> Iterator[SourceItem]:
    found = 0
    open_groups: list[_Group] = []
    prefixes: list[str] = []
    for item in _media_files(store, extensions):
        name = item.video_id
        # Names come in order, so only groups and names that this one begins with can meet later ones.
        while open_groups and not name.startswith(open_groups[-1].stem + "."):
            yield from _resolved(open_groups.pop())
        while prefixes and not name.startswith(prefixes[-1]):
            prefixes.pop()
        stem = name.rpartition(".")[0]
        if not open_groups or open_groups[-1].stem != stem:
            open_groups.append(_Group(stem, stem in prefixes, []))
        open_groups[-1].files.append(item)
        prefixes.append(name)
        found += 1
    while open_groups:
        yield from _resolved(open_groups.pop())
    if not found:
        raise UserError(f"{store.root}: no media files ({', '.join(sorted(extensions))})")


def _media_files(store: Store, extensions: frozenset[str]) -> Iterator[SourceItem]:
    for entry in store.list():
        stem, dot, extension = entry.path.rpartition(".")
        if not dot or extension.lower() not in extensions or entry.path.endswith("/"):
            continue
        if any(part.startswith(".") for part in entry.path.split("/")) or stem.endswith("/"):
            continue
        try:
            entry.path.encode()
        except UnicodeEncodeError:
            logger.warning("%r is no valid UTF-8 name: left out", entry.path)
            continue
        uri = store.uri(entry.path)
        yield SourceItem(video_id=entry.path, uri=uri, size_bytes=entry.size_bytes, etag=entry.etag)


def _resolved(group: _Group) -> Iterator[SourceItem]:
    if len(group.files) > 1 or group.stem_is_listed:
        yield from group.files
        return
    file = group.files[0]
    yield SourceItem(video_id=group.stem, uri=file.uri, size_bytes=file.size_bytes, etag=file.etag)
