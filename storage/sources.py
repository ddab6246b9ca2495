"""What a source is: which of the formats it has, told by its name, by what lies in it, or by the user.

a file's name ends in .csv .tsv .jsonl .ndjson  a list
a file's name ends in .tar                      a WebDataset shard
a file's name ends in .parquet                  with a column of bytes the videos themselves, else a list
anything else                                   a folder or prefix, and it is what its first thousand objects are:
                                                media files, tars, or Parquet files, but not two of them; one that
                                                shows nothing and is named like a list, as Spark does, holds lists
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from records.errors import UserError
from records.items import Metadata
from storage.catalog_objects import Known
from storage.columns import URI_COLUMNS, Columns, chosen
from storage.faults import redact
from storage.line_files import LINE_ENDINGS
from storage.source_files import FileSource
from storage.source_items import LeftOut, ListedObject, SourceItem, media_extension, with_checked_ids
from storage.source_list import ListSource
from storage.source_objects import SourceObject, is_hidden, object_name, open_object
from storage.source_parquet import PARQUET_ENDINGS, ParquetSource, bytes_columns
from storage.source_webdataset import TAR_ENDINGS, WebDatasetSource
from storage.stores import Store

__all__ = ["Source", "SourceFormat", "SourceItem", "open_source"]

_LOOKED_AT = 1000
_NAME_IT = "say which with --format"
_SAY = "say what it is with --format"
_PURE_LISTS = tuple(ending for ending in LINE_ENDINGS if ending not in PARQUET_ENDINGS)


class SourceFormat(StrEnum):
    """How a source holds its videos: the values of `--format`."""

    FILES = "files"
    LIST = "list"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source whose format is known."""

    uri: str
    format: SourceFormat
    _reader: FileSource | ListSource | WebDatasetSource | ParquetSource

    def items(self) -> Iterator[SourceItem | LeftOut | ListedObject]:
        """What is in it, streamed, once.

        Raises:
            UserError: It cannot be read, or there is no item in it.
        """
        found, reasons = 0, dict[str, str]()
        for entry in with_checked_ids(self._reader.items()):
            found += isinstance(entry, SourceItem) or (
                isinstance(entry, ListedObject) and entry.kept and entry.items > 0
            )
            if isinstance(entry, LeftOut) and len(reasons) < 3:
                reasons.setdefault(entry.reason, entry.name)
            yield entry
        if not found:
            because = "; ".join(f"{reason}: {name}" for reason, name in reasons.items())
            raise UserError(f"{redact(self.uri)}: no {_HELD[self.format]} in it{f' ({because})' if because else ''}")

    def titles(self) -> Iterator[tuple[str, Metadata]]:
        """A table of titles that lies in the source apart from the items; to be read behind `items`."""
        return self._reader.titles()


_HELD = {
    SourceFormat.FILES: "media files",
    SourceFormat.LIST: "lines with an id and a URI",
    SourceFormat.WEBDATASET: "videos in .tar files",
    SourceFormat.PARQUET: "rows in .parquet files",
}


def open_source(
    uri: str, *, format: SourceFormat | None = None, columns: Columns | None = None, known: Known | None = None
) -> Source:
    """A source in the format that was named, or that it shows.

    Args:
        uri: The source.
        format: What it is; None for what it shows.
        columns: Names that the user gave.
        known: Tars and Parquet files that need not be read where they are as they were.

    Raises:
        UserError: There is no such source, or it shows no format or several.
    """
    columns = Columns() if columns is None else columns
    format = recognised(uri, columns) if format is None else format
    reader: FileSource | ListSource | WebDatasetSource | ParquetSource
    if format is SourceFormat.FILES:
        reader = FileSource(Store.open(uri))
    elif format is SourceFormat.LIST:
        reader = ListSource(uri, columns)
    elif format is SourceFormat.WEBDATASET:
        reader = WebDatasetSource(uri, known or {})
    else:
        reader = ParquetSource(uri, columns, known or {})
    return Source(uri=uri, format=format, _reader=reader)


def recognised(uri: str, columns: Columns | None = None) -> SourceFormat:
    """The format that a source shows.

    Args:
        uri: The source.
        columns: Names that the user gave: of two kinds of column in a Parquet file, they say which is meant.

    Raises:
        UserError: There is no such source, or it shows no format or several.
    """
    columns = Columns() if columns is None else columns
    name = object_name(uri)
    if name.endswith((*LINE_ENDINGS, *TAR_ENDINGS)) and (one := open_object(uri)) is not None:
        if name.endswith(_PURE_LISTS):
            return SourceFormat.LIST
        if name.endswith(TAR_ENDINGS):
            return SourceFormat.WEBDATASET
        # Without either column, what reads it says what it misses.
        return _parquet_format(one, columns) or SourceFormat.PARQUET
    if "://" not in uri and os.path.isfile(uri):
        raise UserError(
            f"{uri} is one file, and no list, tar or Parquet file by its name: name the folder it is in, or {_SAY}"
        )
    store = Store.open(uri)
    shown, parquet = _shown(store)
    if parquet is not None:
        held = _parquet_format(parquet, columns)
        # Beside videos or tars, a Parquet file without bytes is their table.
        if held is not None and not (shown and held is SourceFormat.LIST):
            shown[held] = parquet.entry.path
        elif held is None and not shown:
            raise UserError(f"{parquet.name}: neither a column of bytes nor one of {', '.join(URI_COLUMNS)}")
    if len(shown) > 1:
        held_together = " and ".join(f"{path} ({kind})" for kind, path in shown.items())
        raise UserError(f"{store.root} holds {held_together}: {_NAME_IT}")
    if not shown and name.endswith(_PURE_LISTS):
        return SourceFormat.LIST
    # Where the first objects show nothing, videos may follow: the listing says where there are none.
    return next(iter(shown), SourceFormat.FILES)


def _shown(store: Store) -> tuple[dict[SourceFormat, str], SourceObject | None]:
    """The formats among the first objects, each with its first object; and the first Parquet file."""
    shown: dict[SourceFormat, str] = {}
    parquet: SourceObject | None = None
    empty = True
    for entry in islice(store.list(), _LOOKED_AT):
        empty = False
        name = entry.path.lower()
        if is_hidden(name):
            continue
        if media_extension(name):
            shown.setdefault(SourceFormat.FILES, entry.path)
        elif name.endswith(TAR_ENDINGS):
            shown.setdefault(SourceFormat.WEBDATASET, entry.path)
        elif name.endswith(PARQUET_ENDINGS) and parquet is None:
            parquet = SourceObject(store=store, entry=entry, uri=store.uri(entry.path))
    if empty:
        here = "://" not in store.root and os.path.isdir(store.root)
        raise UserError(f"{store.root}: {'nothing is in it' if here else 'there is no such folder, or nothing in it'}")
    return shown, parquet


def _parquet_format(source: SourceObject, columns: Columns) -> SourceFormat | None:
    """Videos in a column of bytes, or a list of URIs; None where it shows neither."""
    try:
        with source.store.open_input(source.entry.path) as file:
            schema = pq.read_schema(file)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source.name}: no Parquet file that can be read: {' '.join(str(error).split())}") from None
    if columns.bytes:
        return SourceFormat.PARQUET
    if columns.uri:
        return SourceFormat.LIST
    if chosen(schema.names, "", URI_COLUMNS) is not None:
        if bytes_columns(schema):
            raise UserError(f"{source.name} has URIs and a column of bytes: {_NAME_IT}")
        return SourceFormat.LIST
    return SourceFormat.PARQUET if bytes_columns(schema) else None
