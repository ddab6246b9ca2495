"""Reads the owner's table of titles and further columns: CSV, Parquet or JSON Lines, everything as text."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from records.errors import UserError
from records.items import Metadata
from storage.columns import ID_COLUMNS, TITLE_COLUMNS, chosen
from storage.faults import redact
from storage.line_files import read_lines, text_of
from storage.source_objects import split_uri
from storage.stores import Store

logger = logging.getLogger(__name__)


def read_metadata(uri: str) -> Iterator[tuple[str, Metadata]]:
    """Id and metadata of every line, streamed. An empty or missing cell is left out; `title` may be absent altogether.

    Columns are found by the names of a list's, whatever their case.

    Raises:
        UserError: No such file, no known format, no id column, or a broken line (named by its number).
    """
    folder, name = split_uri(uri)
    store = Store.open(folder)
    return _rows(redact(store.uri(name)), read_lines(store, name))


def _rows(where: str, lines: Iterator[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[str, Metadata]]:
    titled = False
    line: Mapping[str, Any] = {}
    columns: tuple[str, ...] = ()
    column = titles = None
    for number, line in lines:
        if columns != (columns := tuple(line)):
            column, titles = chosen(columns, "", ID_COLUMNS), chosen(columns, "", TITLE_COLUMNS)
            titled = titled or titles is not None
        if column is None:
            raise UserError(f"{where}: row {number} has no column {' or '.join(ID_COLUMNS)}")
        values = {key: text_of(value) for key, value in line.items() if key not in (column, titles)}
        video_id = text_of(line[column])
        if not video_id:
            raise UserError(f"{where}: row {number} has an empty {column}")
        title = text_of(line[titles]) if titles is not None else ""
        yield video_id, Metadata(title=title, extra={key: text for key, text in values.items() if text})
    if not line:
        logger.warning("%s has no rows: nothing was taken from it", where)
    elif not titled:
        logger.warning("%s has no column 'title', so it names no title; it has %s", where, ", ".join(line))


def overlaid(below: Metadata, above: Metadata) -> Metadata:
    """Two words on one item as one: where both say something, the one above counts."""
    return Metadata(title=above.title or below.title, extra={**below.extra, **above.extra})
