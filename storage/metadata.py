"""Reads the owner's table of titles and further columns: CSV, Parquet or JSON Lines, everything as text."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from records.errors import UserError
from records.items import Metadata
from storage.stores import Store

ID_COLUMNS = ("video_id", "item", "id")
"""Names under which an id is looked for, the first that is there."""

_BATCH_ROWS = 8192


def read_metadata(uri: str) -> Iterator[tuple[str, Metadata]]:
    """Id and metadata of every line, streamed. An empty or missing cell is left out; `title` may be absent altogether.

    Raises:
        UserError: No such file, no known format, no id column, or a broken line (named by its number).
    """
    folder, _, name = uri.rpartition("/")
    store = Store.open(folder or ("/" if uri.startswith("/") else "."))
    readers = {".csv": _csv_lines, ".tsv": _tsv_lines, ".parquet": _parquet_lines, ".jsonl": _json_lines}
    reader = next((reader for suffix, reader in readers.items() if name.lower().endswith(suffix)), None)
    if reader is None:
        raise UserError(f"{store.uri(name)}: metadata must be one of {', '.join(readers)}")
    try:
        file = store.open_input(name)
    except FileNotFoundError:
        raise UserError(f"{store.uri(name)}: no such metadata file") from None
    return _rows(store.uri(name), reader(file))


def _rows(uri: str, lines: Iterator[Mapping[str, Any]]) -> Iterator[tuple[str, Metadata]]:
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            column = next((name for name in ID_COLUMNS if name in line), None)
            if column is None:
                raise UserError(f"{uri}: row {number} has no column {' or '.join(ID_COLUMNS)}")
            values = {key: _text(value) for key, value in line.items() if key != column}
            video_id = _text(line[column])
            if not video_id:
                raise UserError(f"{uri}: row {number} has an empty {column}")
            title = values.pop("title", "")
            yield video_id, Metadata(title=title, extra={key: text for key, text in values.items() if text})
    except (csv.Error, json.JSONDecodeError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise UserError(f"{uri}: row {number + 1} cannot be read: {' '.join(str(error).split())}") from None


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (dict, list, bool)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _csv_lines(file: io.BufferedReader, delimiter: str = ",") -> Iterator[Mapping[str, Any]]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    for line in csv.DictReader(text, delimiter=delimiter, strict=True):
        if None in line:
            raise csv.Error("more cells than the header has")
        yield line


def _tsv_lines(file: io.BufferedReader) -> Iterator[Mapping[str, Any]]:
    return _csv_lines(file, "\t")


def _json_lines(file: io.BufferedReader) -> Iterator[Mapping[str, Any]]:
    for text in io.TextIOWrapper(file, encoding="utf-8-sig"):
        if text.strip():
            line = json.loads(text)
            if not isinstance(line, dict):
                raise json.JSONDecodeError("not an object", text.strip()[:40], 0)
            yield line


def _parquet_lines(file: io.BufferedReader) -> Iterator[Mapping[str, Any]]:
    for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH_ROWS):
        yield from batch.to_pylist()
