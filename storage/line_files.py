"""Tables of the catalogue's owner, line by line: CSV, TSV, JSON Lines or Parquet.

What a table is shows its name, or how it begins where the name has no ending of these.
"""

import csv
import functools
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from records.errors import UserError
from storage.faults import redact
from storage.stores import Store

PARQUET_ENDING = ".parquet"
LINE_ENDINGS = (".csv", ".tsv", PARQUET_ENDING, ".jsonl", ".ndjson")

MAX_CELL_CHARACTERS = 16 * 1024**2
"""Longest cell of a CSV or TSV file: one without a closing quote would take all that follows into memory."""
csv.field_size_limit(MAX_CELL_CHARACTERS)  # Python has one limit for a process, of 131,072 unless it is set

_SNIFFED_BYTES = 16 * 1024
_BATCH_ROWS = 8192
_AHEAD_BYTES = 8 * 1024**2
_BROKEN = (csv.Error, ValueError, OverflowError, KeyError, RecursionError, pa.ArrowException, OSError)
"""ValueErrors are broken JSON and Unicode and numbers of thousands of digits; an unknown time zone is a KeyError."""


class _HeaderError(ValueError):
    """The names of a table's columns cannot be told apart."""


def _any_schema(schema: pa.Schema) -> None:
    """Takes every table as it is."""


def read_lines(
    store: Store, name: str, check: Callable[[pa.Schema], None] = _any_schema
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each line with its number from 1, streamed. Columns of bytes are left out.

    Args:
        store: Where the table lies.
        name: Its path there.
        check: Sees the schema of a Parquet file before its first line, columns of bytes included; may raise.

    Raises:
        UserError: No such file, no known format, two columns of one name, or a broken line, named by its number.
    """
    where = redact(store.uri(name))
    plain = name.partition("?")[0].lower()
    try:
        ending = next((ending for ending in LINE_ENDINGS if plain.endswith(ending)), None) or _sniffed(store, name)
        if ending is None:
            kinds = ", ".join(LINE_ENDINGS)
            raise UserError(
                f"{where}: no table that can be read: it must be one of {kinds} by its name or its first line"
            )
        file = store.open_input(name, max_ahead_bytes=0 if ending == PARQUET_ENDING else _AHEAD_BYTES)
    except FileNotFoundError:
        raise UserError(f"{where}: there is no such file") from None
    return _numbered(where, file, _READERS.get(ending) or functools.partial(_parquet_lines, check=check))


def _sniffed(store: Store, name: str) -> str | None:
    """The ending that a table should have by how it begins; None where that is no table's."""
    with store.open_input(name) as file:
        start = file.peek(_SNIFFED_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()[:_SNIFFED_BYTES]
    first = start.partition(b"\n")[0]
    if start.startswith(b"PAR1"):
        return PARQUET_ENDING
    if b"\0" in start or start.startswith(b"["):
        return None
    return ".jsonl" if start.startswith(b"{") else ".tsv" if b"\t" in first else ".csv" if b"," in first else None


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
    except _HeaderError as error:
        raise UserError(f"{where}: {error}") from None
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
    reader = csv.DictReader(text, delimiter=delimiter, strict=True)
    reader.fieldnames = names = [name.strip() for name in reader.fieldnames or ()]
    _refuse_repeated([name for name in names if name])
    for line in reader:
        if None in line:
            raise csv.Error("more cells than the header has")
        yield line


def _refuse_repeated(names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise _HeaderError(f"several columns are named {repeated[0][:40]!r}")


def _tsv_lines(file: io.BufferedReader) -> Iterator[Mapping[str, Any]]:
    return _csv_lines(file, "\t")


def _json_lines(file: io.BufferedReader) -> Iterator[Mapping[str, Any]]:
    for text in io.TextIOWrapper(file, encoding="utf-8-sig"):
        if text.strip():
            line = json.loads(text)
            if not isinstance(line, dict):
                raise json.JSONDecodeError("not an object", text.strip()[:40], 0)
            yield line


def _parquet_lines(file: io.BufferedReader, check: Callable[[pa.Schema], None]) -> Iterator[Mapping[str, Any]]:
    table = pq.ParquetFile(file)
    check(table.schema_arrow)
    _refuse_repeated(table.schema_arrow.names)
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
    types = pa.types
    lengths = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    return lengths or types.is_binary_view(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts, or nothing at all."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)


_READERS = {
    ".csv": _csv_lines,
    ".tsv": _tsv_lines,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
