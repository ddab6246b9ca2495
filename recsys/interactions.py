"""Reads who watched what, and when: MicroLens's own files, or any CSV or Parquet table of (user, item, time).

MicroLens (arXiv 2309.15379) publishes `*_pairs.tsv`, a line a user: `user<TAB>item item …`, oldest first, and
`*_pairs.csv` with the columns `user,item,timestamp`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from records.errors import UserError
from storage.faults import redact
from storage.source_objects import object_name, split_uri
from storage.stores import Store

USER_COLUMNS = ("user", "user_id")
ITEM_COLUMNS = ("item", "item_id", "video_id")
TIME_COLUMNS = ("time", "timestamp", "ts")
"""Names under which each column is looked for, the first that is there."""

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interactions:
    """Events in order: user by user, oldest first; events of one time keep the file's order."""

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    users: Ints
    """(E,) index into `user_ids`, never falling."""
    items: Ints
    """(E,) index into `item_ids`."""

    def __len__(self) -> int:
        return len(self.users)


def read_interactions(uri: str) -> Interactions:
    """Reads a file, by its ending: `.tsv` as MicroLens's pairs, `.csv` or `.parquet` as a table.

    Raises:
        UserError: No such file, a damaged one, no known format, a column that is missing, or a line without a user,
            item or time.
    """
    folder, name = split_uri(uri)
    store = Store.open(folder)
    where = redact(store.uri(name))
    readers = {".tsv": _pairs, ".csv": _csv_table, ".parquet": _parquet_table}
    reader = next((reader for ending, reader in readers.items() if object_name(uri).endswith(ending)), None)
    if reader is None:
        raise UserError(f"{where}: interactions must be one of {', '.join(readers)}")
    try:
        file = store.open_input(name)
    except FileNotFoundError:
        raise UserError(f"{where}: no such file of interactions") from None
    try:
        interactions = reader(file, where)
    # An OSError is what pyarrow makes of a damaged page.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{where} cannot be read: {' '.join(str(error).split())}") from None
    if not len(interactions):
        raise UserError(f"{where} holds no interaction")
    return interactions


def interactions_of(users: "pa.Array[Any]", items: "pa.Array[Any]", times: npt.NDArray[Any] | None) -> Interactions:
    """Events from columns of text ids.

    Args:
        users: (E,) text.
        items: (E,) text.
        times: (E,) anything that sorts; None where the lines are in order already.
    """
    user_codes, user_ids = _encode(users)
    item_codes, item_ids = _encode(items)
    order = np.lexsort((user_codes,) if times is None else (times, user_codes))
    return Interactions(user_ids=user_ids, item_ids=item_ids, users=user_codes[order], items=item_codes[order])


def _encode(column: "pa.Array[Any]") -> tuple[Ints, list[str]]:
    encoded = column.dictionary_encode()
    texts: list[Any] = encoded.dictionary.to_pylist()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32), texts


def _pairs(file: io.BufferedReader, uri: str) -> Interactions:
    users: list[str] = []
    items: list[str] = []
    for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), start=1):
        if not line.strip():
            continue
        user, tab, watched = line.partition("\t")
        watched_items = watched.split()
        if not tab or not user.strip() or not watched_items or "\t" in watched.rstrip():
            raise UserError(f"{uri}: line {number} is not `user<TAB>item item …`")
        users += [user.strip()] * len(watched_items)
        items += watched_items
    return interactions_of(pa.array(users, pa.string()), pa.array(items, pa.string()), None)


def _csv_table(file: io.BufferedReader, uri: str) -> Interactions:
    as_text = {name: pa.string() for name in (*USER_COLUMNS, *ITEM_COLUMNS)}
    convert = pa_csv.ConvertOptions(column_types=as_text, strings_can_be_null=True, null_values=[""])
    return _from_table(pa_csv.read_csv(file, convert_options=convert), uri)


def _parquet_table(file: io.BufferedReader, uri: str) -> Interactions:
    parquet = pq.ParquetFile(file)
    wanted = [name for name in parquet.schema_arrow.names if name in (*USER_COLUMNS, *ITEM_COLUMNS, *TIME_COLUMNS)]
    return _from_table(parquet.read(wanted), uri)


def _from_table(table: pa.Table, uri: str) -> Interactions:
    columns = [_column(table, names, uri) for names in (USER_COLUMNS, ITEM_COLUMNS, TIME_COLUMNS)]
    users, items = (column.cast(pa.string()) for column in columns[:2])
    times = columns[2]
    if not (pa.types.is_integer(times.type) or pa.types.is_floating(times.type) or pa.types.is_temporal(times.type)):
        raise UserError(f"{uri}: times must be numbers or timestamps, not {times.type}")
    values = times.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(times.type) and not np.isfinite(values).all():
        raise UserError(f"{uri}: row {int(np.flatnonzero(~np.isfinite(values))[0]) + 1} has a time that is not finite")
    return interactions_of(users, items, values)


def _column(table: pa.Table, names: Sequence[str], uri: str) -> "pa.Array[Any]":
    name = next((name for name in names if name in table.column_names), None)
    if name is None:
        raise UserError(f"{uri} has no column {' or '.join(names)}; it has {', '.join(table.column_names)}")
    chunks = table.column(name).chunks
    column: pa.Array[Any] = pa.concat_arrays(chunks) if chunks else pa.array([], table.schema.field(name).type)
    empty = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.type):
        empty |= pc.equal(pc.utf8_trim_whitespace(column), pa.scalar("")).fill_null(True).to_numpy(zero_copy_only=False)
    missing = np.flatnonzero(empty)
    if len(missing):
        raise UserError(f"{uri}: row {int(missing[0]) + 1} has no {name}")
    return column
