"""Tables of the catalogue's owner, line by line: CSV, TSV, JSON Lines or Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from records.errors import UserError
from storage.faults import redact
from storage.stores import Store

LINE_ENDINGS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")

_BATCH_ROWS = 8192
_AHEAD_BYTES = 8 * 1024**2
_BROKEN = (csv.Error, ValueError, OverflowError, KeyError, RecursionError, pa.ArrowException, OSError)
"""ValueErrors are broken JSON and Unicode and numbers of thousands of digits; an unknown time zone is a KeyError."""


def read_lines(store: Store, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each line with its number from 1, streamed. Columns of bytes are left out.

    Raises:
        UserError: No such file, no known format, or a broken line, named by its number.
    """
    where = redact(store.uri(name))
    plain = name.partition("?")[0].lower()
    reader = next((reader for ending, reader in _READERS.items() if plain.endswith(ending)), None)
    if reader is None:
        raise UserError(f"{where}: no table that can be read: it must be one of {', '.join(LINE_ENDINGS)}")
    try:
        file = store.open_input(name, max_ahead_bytes=0 if plain.endswith(".parquet") else _AHEAD_BYTES)
    except FileNotFoundError:
        raise UserError(f"{where}: there is no such file") from None
    return _numbered(where, file, reader)


def _numbered(
    where: str, file: io.BufferedReader, reader: Callable[[io.BufferedReader], Iterator[Mapping[str, Any]]]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    try:
        with file:
            for number, line in enumerate(reader(file), start=1):
                yield number, line
    except UserError:
        raise
    except _BROKEN as error:
        # What JSON says of lines and columns is of the one line that it was given.
        text = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        words = " ".join(text.split()) or type(error).__name__
        raise UserError(f"{where}: row {number + 1} cannot be read: {words}") from None


def read_header(store: Store, name: str) -> list[str]:
    """The columns of a table's first line; empty where it has none."""
    for _, line in read_lines(store, name):
        return list(line)
    return []


def text_of(value: object) -> str:
    """A cell as text; empty for a missing one. What is no valid Unicode becomes U+FFFD."""
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (dict, list, bool)) else str(value)
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


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
    table = pq.ParquetFile(file)
    columns = [field.name for field in table.schema_arrow if not holds_bytes(field.type)]
    for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
        yield from batch.to_pylist()


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type, or a part of it, is made of bytes."""
    if pa.types.is_struct(kind):
        return any(holds_bytes(kind.field(index).type) for index in range(kind.num_fields))
    return is_bytes(kind)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type is one of bytes, whatever its length."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


_READERS = {
    ".csv": _csv_lines,
    ".tsv": _tsv_lines,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet_lines,
}
