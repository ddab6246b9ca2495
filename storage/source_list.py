"""A source that is a list: a CSV, TSV, JSON Lines or Parquet file, or a folder of them, with an id and a URI a line.

A URI that is no absolute one is relative to its list's folder. Further columns become metadata, as text; `size_bytes`
and `etag` are held against what is read, where they are there. A list is trusted as the command line is: it may
name any object that the job can open.
"""

import functools
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import pyarrow as pa

from records.errors import UserError
from records.items import Metadata
from storage.columns import (
    ETAG_COLUMNS,
    ID_COLUMNS,
    SIZE_COLUMNS,
    TITLE_COLUMNS,
    URI_COLUMNS,
    Columns,
    chosen,
    required,
)
from storage.line_files import LINE_ENDINGS, holds_bytes, is_text, read_lines, text_of
from storage.source_items import LeftOut, LeftOutReason, SourceItem, shown
from storage.source_objects import SourceObject, has_unicode_name, is_web, source_objects

_NO_ID = "and an id is text or a whole number"
_NO_URI = "and a URI is text"


@dataclass(frozen=True, slots=True)
class _Roles:
    """Columns of one list, or of those of its lines that have the same ones."""

    id: str | None
    uri: str | None
    title: str | None
    size: str | None
    etag: str | None


@dataclass(slots=True)
class ListSource:
    """The lines of one list or several."""

    uri: str
    columns: Columns
    _roles: dict[tuple[str, ...], _Roles] = field(default_factory=dict)

    def items(self) -> Iterator[SourceItem | LeftOut]:
        """One item a line, in order.

        Raises:
            UserError: A list has no column for ids or URIs, one of another type, or cannot be read.
        """
        for source in source_objects(self.uri, LINE_ENDINGS):
            path = source.entry.path
            if not has_unicode_name(source):
                yield LeftOut(reason=LeftOutReason.BROKEN_FILE, name=f"{shown(path)}: its name is no Unicode")
                continue
            for number, line in read_lines(source.store, path, functools.partial(self._check_types, source.name)):
                if number == 1:
                    self._check(source, list(line))
                yield self._item(source, number, line)

    def titles(self) -> Iterator[tuple[str, Metadata]]:
        """None: each line carries its own."""
        return iter(())

    def _check(self, source: SourceObject, columns: Sequence[str]) -> None:
        required(source.name, columns, "id", self.columns.id, ID_COLUMNS)
        required(source.name, columns, "uri", self.columns.uri, URI_COLUMNS)
        if self.columns.title:
            required(source.name, columns, "title", self.columns.title, TITLE_COLUMNS)

    def _check_types(self, where: str, schema: pa.Schema) -> None:
        """Of a Parquet file: ids may be texts or whole numbers, URIs texts alone."""
        plain = [column.name for column in schema if not holds_bytes(column.type)]
        for given, usual, words in (
            (self.columns.id, ID_COLUMNS, _NO_ID),
            (self.columns.uri, URI_COLUMNS, _NO_URI),
        ):
            name = chosen(plain, given, usual) or chosen(schema.names, given, usual)
            kind = None if name is None else schema.field(name).type
            if kind is not None and not is_text(kind) and (words is _NO_URI or not pa.types.is_integer(kind)):
                raise UserError(f"{where}: column {name} is {kind}, {words}")

    def _item(self, source: SourceObject, number: int, line: Mapping[str, Any]) -> SourceItem | LeftOut:
        roles = self._roles_of(tuple(line))
        where = f"{source.name}, row {number}"
        uri = text_of(line[roles.uri]).strip() if roles.uri is not None else ""
        if roles.uri is not None and not isinstance(line[roles.uri], str | None):
            raise UserError(f"{where}: column {roles.uri} is {type(line[roles.uri]).__name__}, {_NO_URI}")
        if not uri:
            return LeftOut(reason=LeftOutReason.NO_URI, name=where)
        if roles.id is None or not text_of(line[roles.id]):
            return LeftOut(reason=LeftOutReason.BAD_ID, name=where)
        if type(line[roles.id]) not in (str, int):
            raise UserError(f"{where}: column {roles.id} is {type(line[roles.id]).__name__}, {_NO_ID}")
        used = {roles.id, roles.uri, roles.title, roles.size, roles.etag}
        extra = {name: text for name, value in line.items() if name not in used and (text := text_of(value))}
        title = text_of(line[roles.title]) if roles.title is not None else ""
        return SourceItem(
            video_id=str(line[roles.id]),
            uri=resolved(source, uri),
            size_bytes=_size(where, text_of(line[roles.size])) if roles.size is not None else None,
            etag=_etag(text_of(line[roles.etag])) if roles.etag is not None else "",
            metadata=Metadata(title=title, extra=extra) if len(line) > len(used - {None, roles.title}) else None,
        )

    def _roles_of(self, columns: tuple[str, ...]) -> _Roles:
        found = self._roles.get(columns)
        if found is None:
            found = _Roles(
                id=chosen(columns, self.columns.id, ID_COLUMNS),
                uri=chosen(columns, self.columns.uri, URI_COLUMNS),
                title=chosen(columns, self.columns.title, TITLE_COLUMNS),
                size=chosen(columns, "", SIZE_COLUMNS),
                etag=chosen(columns, "", ETAG_COLUMNS),
            )
            self._roles = {columns: found}
        return found


def _size(where: str, text: str) -> int | None:
    """A size in bytes; a Parquet column with gaps gives whole floats."""
    text = text.strip().removesuffix(".0")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise UserError(f"{where}: size_bytes is no whole number: {text[:40]!r}")
    return int(text)


def _etag(text: str) -> str:
    """As a store or web server gives it, and as it is kept: not weak, and without quotes."""
    return text.strip().removeprefix("W/").strip('"')


def resolved(source: SourceObject, uri: str) -> str:
    """An absolute URI: relative ones are taken from the folder of the list they stand in."""
    if "://" in uri or uri.startswith("/"):
        return uri
    if is_web(source.uri):
        return urljoin(source.uri, uri)
    base = source.uri.rpartition("/")[0]
    if ".." not in uri.split("/") and not uri.startswith("./"):
        return f"{base}/{uri}"
    scheme, separator, path = base.rpartition("://")
    return f"{scheme}{separator}{posixpath.normpath(f'{path}/{uri}')}"
