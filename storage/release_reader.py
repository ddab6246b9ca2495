"""Reads releases and vectors that a user brings: the side of the consumer, who needs no stage table and no Ray.

releases/<name>/vectors/<view>.npy      float16 or float32 (N, D); row i is line i of item_ids.parquet
releases/<name>/item_ids.parquet        video_id, version, has_<view> for each view
releases/<name>/items/part-*.parquet    of which only video_id and duration_seconds are read here
releases/<name>/manifest.json
releases/LATEST                         the name of the newest
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from records.errors import ReelscribeError, UserError
from storage.faults import redact
from storage.releases import latest_release, release_path
from storage.source_objects import object_name, split_uri
from storage.stores import Store

ID_COLUMNS = ("video_id", "item", "id")
"""Names under which ids are looked for in a file that comes with vectors, the first that is there."""

_HAS = "has_"
_NO_NPY = (ValueError, TypeError, OverflowError, EOFError, OSError, SyntaxError, RecursionError, TokenError)
"""What numpy says of damage: the header is a Python literal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewVectors:
    """Vectors as stored."""

    item_ids: Sequence[str]
    values: npt.NDArray[np.float32]
    """(M, D) in the stored dtype."""
    present: npt.NDArray[np.bool_]
    """(M,) whether the line holds a vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReader:
    """One release."""

    store: Store
    prefix: str
    """Path of the release's folder in the store; empty, or with `/` at its end."""
    name: str
    manifest: Mapping[str, Any]
    item_ids: Sequence[str]
    """Line by line of `item_ids.parquet`."""
    has: Mapping[str, npt.NDArray[np.bool_]] = field(repr=False)
    """View to (M,) whether an item has its vector."""

    @classmethod
    def open(cls, uri: str) -> "ReleaseReader":
        """Opens a release's own folder, or an output with `releases/LATEST`, which names the newest.

        Raises:
            UserError: There is no release, or a file of it is missing or broken.
        """
        store = Store.open(uri)
        prefix = ""
        if not store.exists("manifest.json"):
            latest = latest_release(store)
            if latest is None:
                where = redact(store.root)
                raise UserError(f"{where} holds neither manifest.json nor releases/LATEST: no release")
            prefix = release_path(latest, "")
            if not store.exists(f"{prefix}manifest.json"):
                where = f"{_shown(store, prefix)}manifest.json"
                raise UserError(f"{where} is missing, and releases/LATEST names that release: put it right")
        manifest = _json(store, f"{prefix}manifest.json")
        table = _parquet(store, f"{prefix}item_ids.parquet", None)
        if "video_id" not in table.column_names:
            raise UserError(f"{_shown(store, prefix)}item_ids.parquet has no column video_id")
        views = [name.removeprefix(_HAS) for name in table.column_names if name.startswith(_HAS)]
        return cls(
            store=store,
            prefix=prefix,
            name=str(manifest.get("release") or store.uri(prefix).rstrip("/").rpartition("/")[2]),
            manifest=manifest,
            item_ids=_texts(table["video_id"]),
            has={view: table[_HAS + view].to_numpy().astype(bool) for view in views},
        )

    @property
    def uri(self) -> str:
        """Where it lies, with `/` at its end."""
        return self.store.uri(self.prefix)

    def views(self) -> Sequence[str]:
        """The views of which some item has a vector."""
        return [view for view, has in self.has.items() if has.any()]

    def vectors(self, view: str) -> ViewVectors:
        """A view's vectors.

        Raises:
            UserError: There is no such view, or its file does not fit the ids or the manifest's dimension.
        """
        if view not in self.has:
            raise UserError(f"{redact(self.uri)} has no view {view!r}; it has {', '.join(self.has)}")
        values = read_npy(self.store, f"{self.prefix}vectors/{view}.npy")
        where = f"{redact(self.uri)}vectors/{view}.npy"
        if values.ndim != 2 or len(values) != len(self.item_ids):
            raise UserError(f"{where} holds {values.shape}, for {len(self.item_ids)} lines of item_ids.parquet")
        dimension = self.manifest.get("dimension")
        if dimension is not None and values.shape[1] != dimension:
            raise UserError(f"{where} has {values.shape[1]} dimensions, where the manifest says {dimension}")
        return ViewVectors(item_ids=self.item_ids, values=values, present=self.has[view])

    def durations_seconds(self) -> Mapping[str, float]:
        """Id to duration, of the items that have one."""
        durations: dict[str, float] = {}
        for entry in self.store.list(f"{self.prefix}items/"):
            if entry.path.endswith(".parquet"):
                table = _parquet(self.store, entry.path, ["video_id", "duration_seconds"])
                pairs = zip(_texts(table["video_id"]), table["duration_seconds"].to_pylist(), strict=True)
                durations |= {video_id: seconds for video_id, seconds in pairs if seconds is not None}
        return durations


def read_vectors(uri: str, ids_uri: str | None, default_ids: Sequence[str] | None) -> ViewVectors:
    """Vectors that a user brings.

    Args:
        uri: A `.npy` file of (M, D) floats.
        ids_uri: The ids of its lines: Parquet with a column of `ID_COLUMNS`, or a text file with one id a line.
        default_ids: The ids where `ids_uri` is None.

    Raises:
        UserError: A file is missing or broken, there are no ids, or their number is another.
    """
    store, name = _file(uri)
    values = read_npy(store, name)
    ids = _ids(ids_uri) if ids_uri is not None else default_ids
    if ids is None:
        raise UserError(f"{_shown(store, name)}: whose vectors are these? Name a file of ids behind a comma")
    if values.ndim != 2 or len(values) != len(ids):
        raise UserError(f"{_shown(store, name)} holds {values.shape}, for {len(ids)} ids")
    return ViewVectors(item_ids=ids, values=values, present=np.ones(len(values), dtype=bool))


def read_npy(store: Store, path: str) -> npt.NDArray[Any]:
    """An array; never runs code that a file carries.

    Raises:
        UserError: There is no such file, or it is no `.npy` of numbers.
    """
    try:
        array: npt.NDArray[Any] = np.load(io.BytesIO(store.read_bytes(path)), allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{_shown(store, path)}: no such file of vectors") from None
    except ReelscribeError:  # the store's: a UserError is a ValueError too
        raise
    except MemoryError as error:  # what a damaged header says of the shape may be no truth
        raise UserError(f"{_shown(store, path)} is damaged or does not fit into memory: {error}") from None
    except _NO_NPY as error:
        raise UserError(f"{_shown(store, path)} is no .npy file: {' '.join(str(error).split())}") from None
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{_shown(store, path)}: vectors must be floats, in .npy")
    return array


def _ids(uri: str) -> Sequence[str]:
    store, name = _file(uri)
    if object_name(uri).endswith(".parquet"):
        table = _parquet(store, name, None)
        column = next((column for column in ID_COLUMNS if column in table.column_names), None)
        if column is None:
            raise UserError(f"{_shown(store, name)} has no column {' or '.join(ID_COLUMNS)}")
        return _texts(table[column])
    try:
        return [line.strip() for line in store.read_bytes(name).decode("utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError(f"{_shown(store, name)}: no such file of ids") from None
    except UnicodeDecodeError:
        raise UserError(f"{_shown(store, name)}: ids must be Parquet, or UTF-8 text with one id a line") from None


def _texts(column: "pa.ChunkedArray[Any]") -> list[str]:
    texts: list[Any] = column.cast(pa.string()).to_pylist()
    if None in texts:
        raise UserError(f"line {texts.index(None) + 1} has no id")
    return texts


def _file(uri: str) -> tuple[Store, str]:
    folder, name = split_uri(uri)
    return Store.open(folder), name


def _shown(store: Store, path: str) -> str:
    return redact(store.uri(path))


def _json(store: Store, path: str) -> Mapping[str, Any]:
    try:
        value = json.loads(store.read_bytes(path))
    except FileNotFoundError:
        raise UserError(f"{_shown(store, path)} is missing: the release is not finished") from None
    except ReelscribeError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{_shown(store, path)} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{_shown(store, path)} holds no manifest")
    return value


def _parquet(store: Store, path: str, columns: list[str] | None) -> pa.Table:
    try:
        with store.open_input(path) as file:
            parquet = pq.ParquetFile(file, pre_buffer=False)  # in this thread alone, as storage.tables.read_table
            table = parquet.read(columns=columns, use_threads=False)
        if missing := set(columns or ()) - set(table.column_names):
            raise pa.ArrowInvalid(f"no column {min(missing)}")
        return table
    except FileNotFoundError:
        raise UserError(f"{_shown(store, path)} is missing: the release is broken") from None
    except (pa.ArrowInvalid, KeyError, OSError) as error:  # a damaged page is an OSError to pyarrow
        raise UserError(f"{_shown(store, path)} cannot be read: {' '.join(str(error).split())}") from None
