"""A source of WebDataset shards: tars in which the members of one sample follow each other and share a key.

A member's key is its name up to the first dot of its last part, the rest its extension
(webdataset/webdataset, `webdataset/tariterators.py`: `base_plus_ext` and `group_by_keys`). A sample's video is an item
whose id is the key. Where a sample has several videos each keeps its extension, and sound counts only where there is no
video. `.json` beside it gives the title (`title`, else `caption`) and further columns, `.txt` the title where no JSON
does, `.cls` a column of that name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from records.errors import UserError
from records.items import Metadata
from storage.catalog_objects import Known, walk
from storage.line_files import text_of
from storage.prefetch import in_order
from storage.source_items import (
    VIDEO_EXTENSIONS,
    LeftOut,
    LeftOutReason,
    ListedObject,
    SourceItem,
    media_extension,
    shown,
)
from storage.source_objects import SourceObject, broken_file, has_unicode_name, source_objects
from storage.tar_members import MOST_READ_BYTES, Member, TarReader

_PACKED_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
TAR_ENDINGS = (".tar", *_PACKED_ENDINGS)
"""Compressed ones are found too, to be refused by name."""
_TARS_AT_ONCE = 32
_READ_AS = "tar 1"
"""To be raised where the same tar is to give other items: then every tar is read again."""
_MOST_VIDEOS = 1000
"""Videos of one sample before its items are given out."""
_METADATA_EXTENSIONS = ("json", "txt", "cls")
_TITLE_KEYS = ("title", "caption")


@dataclass(slots=True)
class WebDatasetSource:
    """The shards of a folder or prefix, or one shard."""

    uri: str
    known: Known

    def items(self) -> Iterator[SourceItem | LeftOut | ListedObject]:
        """One item for each video, in the order of the shards and within them.

        Raises:
            UserError: A shard is compressed.
        """
        return in_order(
            source_objects(self.uri, TAR_ENDINGS),
            lambda source: walk(source, self.known, _READ_AS, tar_items),
            at_once=_TARS_AT_ONCE,
        )

    def titles(self) -> Iterator[tuple[str, Metadata]]:
        """None: each sample carries its own."""
        return iter(())


def tar_items(source: SourceObject) -> Iterator[SourceItem | LeftOut]:
    """The items of one shard; one that is gone since it was listed is left out."""
    if source.entry.path.lower().endswith(_PACKED_ENDINGS):
        raise UserError(f"{source.name} is compressed: its members have no ranges of bytes; unpack it")
    if not has_unicode_name(source):
        yield LeftOut(reason=LeftOutReason.BROKEN_FILE, name=f"{shown(source.entry.path)}: its name is no Unicode")
        return
    try:
        tar = TarReader(source)
        try:
            yield from _samples(source, tar)
        finally:
            tar.close()
    except OSError as error:
        yield broken_file(source, error)


def _samples(source: SourceObject, tar: TarReader) -> Iterator[SourceItem | LeftOut]:
    sample = _Sample("")
    for member in tar.members():
        if isinstance(member, LeftOut):
            yield member
            continue
        split = key_and_extension(member.name)
        if split is None:
            continue  # as WebDataset does with names without an extension, or with nothing before it
        key, extension = split[0], split[1].lower()
        if key != sample.key or len(sample.videos) >= _MOST_VIDEOS:
            yield from sample.items(source)
            sample = _Sample(key)
        yield from sample.add(source, tar, extension, member)
    yield from sample.items(source)


def key_and_extension(name: str) -> tuple[str, str] | None:
    """What WebDataset's `^((?:.*/|)[^.]+)[.]([^/]*)$` makes of a name, in time that grows with its length alone.

    Where the last part of the name starts with a dot, the folder before it is the key if that has none.
    """
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.partition(".")
    if not dot or not (stem or (slash and "." not in folder.rpartition("/")[2])):
        return None
    return f"{folder}{slash}{stem}", extension


@dataclass(slots=True)
class _Sample:
    """Members that follow each other and share a key."""

    key: str
    videos: list[tuple[str, Member]] = field(default_factory=list)
    """Extension and member of what can be an item: sound too."""
    beside: dict[str, bytes] = field(default_factory=dict)
    """Extension to content of the members that hold metadata."""

    def add(self, source: SourceObject, tar: TarReader, extension: str, member: Member) -> Iterator[LeftOut]:
        """Takes one member in."""
        if media_extension(f".{extension}"):
            self.videos.append((extension, member))
        elif extension in _METADATA_EXTENSIONS:
            if member.size_bytes > MOST_READ_BYTES:
                yield _bad_metadata(source, self.key, extension)
            else:
                self.beside[extension] = tar.read(member)

    def items(self, source: SourceObject) -> Iterator[SourceItem | LeftOut]:
        """The items of the finished sample."""
        pictures = [one for one in self.videos if media_extension(f".{one[0]}") in VIDEO_EXTENSIONS]
        chosen = pictures or self.videos
        if not chosen:
            return
        metadata, bad = self._metadata()
        yield from (_bad_metadata(source, self.key, extension) for extension in bad)
        alone = len({extension for extension, _ in chosen}) == 1
        for extension, member in chosen:
            yield SourceItem(
                video_id=self.key if alone else f"{self.key}.{extension}",
                uri=source.uri,
                size_bytes=member.size_bytes,
                etag=source.entry.etag,
                byte_offset=member.offset,
                metadata=metadata,
            )

    def _metadata(self) -> tuple[Metadata | None, list[str]]:
        """What lies beside, and the extensions of what cannot be read of it."""
        if not self.beside:
            return None, []
        title, extra, bad = "", dict[str, str](), list[str]()
        for extension, data in self.beside.items():
            try:
                text = data.decode("utf-8-sig")
                if extension == "json":
                    extra |= _json_columns(text)
                elif extension == "txt":
                    title = text.strip()
                else:
                    extra[extension] = text.strip()
            except (ValueError, RecursionError):
                bad.append(extension)
        for name in _TITLE_KEYS:
            if extra.get(name):
                title = extra.pop(name)
                break
        return Metadata(title=title, extra={name: value for name, value in extra.items() if value}), bad


def _json_columns(text: str) -> dict[str, str]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    return {text_of(name): text_of(value) for name, value in values.items()}


def _bad_metadata(source: SourceObject, key: str, extension: str) -> LeftOut:
    return LeftOut(reason=LeftOutReason.BAD_METADATA, name=f"{shown(f'{key}.{extension}')} in {source.name}")
