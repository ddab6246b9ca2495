"""A source that is a folder or prefix of media files, with a table of titles right in it where there is one.

An item's id is its path relative to the source without the extension: `clips/0042.mp4` is `clips/0042`. A file keeps
its extension where another listed file differs from it in nothing else (`a.mp4` and `a.webm`), or where the name
without it is itself a listed file (`a.mp4` and `a.mp4.mkv`). That depends on which files there are, not on their order.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from records.errors import UserError
from records.items import Metadata
from storage.columns import ID_COLUMNS, TITLE_COLUMNS, chosen
from storage.line_files import read_header
from storage.metadata import read_metadata
from storage.source_items import LeftOut, LeftOutReason, SourceItem, media_extension, shown
from storage.stores import Store

logger = logging.getLogger(__name__)

_TABLE_ENDINGS = (".csv", ".tsv")
_MOST_TABLES = 20
"""Tables right in the folder that are looked at before none is taken for that of the titles."""


@dataclass(slots=True)
class _Group:
    """Files that differ in their extension only, while more of them may follow."""

    stem: str
    stem_is_listed: bool
    files: list[SourceItem]
    """Their ids still with extension."""


@dataclass(slots=True)
class FileSource:
    """Media files below a folder or prefix."""

    store: Store
    _tables: list[str] = field(default_factory=list)
    """Tables seen right in the folder."""

    def items(self) -> Iterator[SourceItem | LeftOut]:
        """The media files, nearly in order of their paths; files whose path has a part that starts with a dot are left
        out."""
        open_groups: list[_Group] = []
        prefixes: list[str] = []
        for item in self._media_files():
            if isinstance(item, LeftOut):
                yield item
                continue
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
        while open_groups:
            yield from _resolved(open_groups.pop())

    def titles(self) -> Iterator[tuple[str, Metadata]]:
        """The lines of the one table with an id and a title that lies right in the folder; to be read behind `items`.

        Where there are several, none is taken, and the log names them.
        """
        found = [name for name in self._tables[:_MOST_TABLES] if self._holds_titles(name)]
        if len(found) == 1 and len(self._tables) <= _MOST_TABLES:
            logger.info("titles from %s", self.store.uri(found[0]))
            yield from read_metadata(self.store.uri(found[0]))
        elif found:
            logger.warning(
                "%s holds several tables of titles (%s): none is read; name one with --metadata",
                self.store.root,
                ", ".join(found[:3]),
            )

    def _holds_titles(self, name: str) -> bool:
        try:
            columns = read_header(self.store, name)
        except UserError as error:
            logger.warning("%s", error)
            return False
        return all(chosen(columns, "", names) is not None for names in (TITLE_COLUMNS, ID_COLUMNS))

    def _media_files(self) -> Iterator[SourceItem | LeftOut]:
        for entry in self.store.list():
            path = entry.path
            if "/" not in path and path.lower().endswith(_TABLE_ENDINGS) and len(self._tables) <= _MOST_TABLES:
                self._tables.append(path)
            if not media_extension(path) or path.rpartition(".")[0].endswith("/"):
                continue
            if any(part.startswith(".") for part in path.split("/")):
                continue
            try:
                path.encode()
            except UnicodeEncodeError:
                yield LeftOut(reason=LeftOutReason.BAD_ID, name=shown(path))
                continue
            uri = self.store.uri(path)
            yield SourceItem(video_id=path, uri=uri, size_bytes=entry.size_bytes, etag=entry.etag)


def _resolved(group: _Group) -> Iterator[SourceItem]:
    if len(group.files) > 1 or group.stem_is_listed:
        yield from group.files
    else:
        yield replace(group.files[0], video_id=group.stem)
