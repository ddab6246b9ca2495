"""The catalog: a frozen, append-only list of items in shards, and what later listings said about them.

    catalog/revisions/<n>.json                       written last: it commits listing n and names its attempt
    catalog/revisions/<n>.<attempt>.shards.parquet   one line a shard: which of the files below belong to revision n
    catalog/shards/<shard_id>.<attempt>.parquet      the items of a shard, written once
    catalog/removed/<shard_id>.<n>.<attempt>.parquet     items of it that were superseded or deleted up to revision n
    catalog/metadata/<shard_id>.<g>.<attempt>.parquet    titles and further columns, generation g
    catalog/locations/<shard_id>.<n>.<attempt>.parquet   presigned URLs of its items, as they were at revision n
    catalog/index/<n>.<attempt>/items-<p>.parquet    every id ever seen, by hash: what the next listing is joined with

Each listing draws a number of its own, the attempt, so that no two write the same file but `<n>.json`. Whatever the
newest revision does not point at was left by a listing that came to nothing, and counts for nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from records.errors import BusyError
from records.items import CatalogItem, Metadata
from storage.catalog_paths import (
    FOLDER,
    REVISIONS,
    index_folder,
    is_catalog_file,
    locations_path,
    metadata_path,
    removed_path,
    revision_path,
    shard_files_path,
    shard_path,
)
from storage.shard_files import DAMAGED, NONE, ShardFiles
from storage.shard_ids import ShardIds
from storage.stores import Store
from storage.tables import decode_records, undamaged

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One committed listing."""

    revision: int
    """From 1."""
    source: str
    shard_size: int
    """Most items in a shard of this revision's own shards."""
    shard_count: int
    item_count: int
    """Items that are live: neither superseded nor deleted."""
    new: int
    changed: int
    deleted: int
    unchanged: int
    metadata_changed: int
    format: str = "files"
    """How the source is read."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Of a list or Parquet file, as `storage.columns.Columns.given` has them."""
    relocated: int = 0
    """Unchanged items whose URL was signed anew."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What of the source became no item: reason to count."""
    returned: int = 0
    """Items that were deleted and are back with the same content: live again under their old version."""
    attempt: int = NONE
    """In the names of all files that this listing wrote; NONE where it was made before listings had one."""

    def check(self, shards: int) -> None:
        """Holds it against the lines of its table of shards: what no longer counts as a shard would be removed.

        Raises:
            ValueError: They are not as many as it says.
        """
        if shards != self.shard_count:
            raise ValueError(f"{shards} shards, where {revision_path(self.revision)} says {self.shard_count}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """An item of a shard that is no longer live."""

    video_id: str
    version: int
    reason: str
    """`superseded` by a newer version, or `deleted`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRow:
    """One item's metadata."""

    video_id: str
    version: int
    title: str
    extra: Mapping[str, str]
    generation: int = 0
    """Generation of the file in which its title last changed; 0 for the one it was listed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where an item is fetched from, where that is more than its URI says: a presigned URL, which is a credential."""

    video_id: str
    version: int
    uri: str


class Catalog:
    """A catalog at one revision. Reading is safe from many threads and machines."""

    def __init__(self, store: Store, revision: Revision, files: ShardFiles) -> None:
        self._store = store
        self._revision = revision
        self._files = files

    @classmethod
    def open(cls, store: Store) -> "Catalog | None":
        """The newest revision, or None where nothing was listed yet."""
        newest = newest_revision(store)
        return cls.at(store, newest) if newest else None

    @classmethod
    def at(cls, store: Store, revision: int) -> "Catalog":
        """The catalog as one revision left it, whatever was listed since.

        Raises:
            FileNotFoundError: It is not there, or not any more.
        """
        path = revision_path(revision)
        with undamaged(store.uri(path), DAMAGED):
            said = Revision(**json.loads(store.read_bytes(path)))
        table = shard_files_path(revision, said.attempt)
        with undamaged(store.uri(table), DAMAGED):
            files = ShardFiles.decode(store.read_bytes(table), with_attempts=said.attempt != NONE)
            said.check(len(files.removed))
            return cls(store, said, files)

    def _records(self, record: type[T], path: str) -> list[T]:
        with undamaged(self._store.uri(path), DAMAGED):
            return decode_records(record, self._store.read_bytes(path))

    @property
    def revision(self) -> int:
        """The revision's number, from 1."""
        return self._revision.revision

    @property
    def attempt(self) -> int:
        """Of the listing that made this revision: in the names of its files."""
        return self._revision.attempt

    @property
    def source(self) -> str:
        """The URI that was listed."""
        return self._revision.source

    @property
    def format(self) -> str:
        """How the source is read."""
        return self._revision.format

    @property
    def columns(self) -> Mapping[str, str]:
        """Role to the column that the user named for it."""
        return self._revision.columns

    @property
    def shard_count(self) -> int:
        """Shards, those without live items included."""
        return self._revision.shard_count

    @property
    def item_count(self) -> int:
        """Live items."""
        return self._revision.item_count

    @property
    def files(self) -> ShardFiles:
        """Which files belong to each shard."""
        return self._files

    def shard_ids(self) -> ShardIds:
        """Every shard's id, in order."""
        return ShardIds(range(self.shard_count))

    def read_shard(self, shard_id: str) -> list[CatalogItem]:
        """All items of a shard in listing order, the removed ones included."""
        return self._records(CatalogItem, self._path_of("shards", int(shard_id)))

    def removed(self, shard_id: str) -> dict[tuple[str, int], str]:
        """Identity to reason, for each item of the shard that is no longer live."""
        if self._files.removed[int(shard_id)] == NONE:
            return {}
        rows = self._records(Removed, self._path_of("removed", int(shard_id)))
        return {(row.video_id, row.version): row.reason for row in rows}

    def locations(self, shard_id: str) -> dict[tuple[str, int], str]:
        """Identity to presigned URL, for each item of the shard that has one: to fetch from, never to be shown."""
        if self._files.locations[int(shard_id)] == NONE:
            return {}
        rows = self._records(Location, self._path_of("locations", int(shard_id)))
        return {(row.video_id, row.version): row.uri for row in rows}

    def newest_metadata(self, shard_id: str) -> dict[tuple[str, int], Metadata]:
        """Identity to metadata, for each item of the shard that has any."""
        generation = int(self._files.metadata[int(shard_id)])
        return {} if generation == NONE else self.read_metadata(shard_id, generation)

    def read_metadata(self, shard_id: str, generation: int) -> dict[tuple[str, int], Metadata]:
        """Identity to metadata, for each item of the shard that has any, at the generation that this revision has."""
        rows = self.metadata_rows(shard_id, generation)
        return {(row.video_id, row.version): Metadata(title=row.title, extra=row.extra) for row in rows}

    def metadata_rows(self, shard_id: str, generation: int) -> list[MetadataRow]:
        """The same as the lines of the file, each with the generation of its title."""
        newest = generation == self._files.metadata[int(shard_id)]
        attempt = self._files.attempt("metadata", int(shard_id)) if newest else NONE
        return self._records(MetadataRow, metadata_path(int(shard_id), generation, attempt))

    def highest_generations(self) -> npt.NDArray[np.int32]:
        """(S,) highest generation that the catalog itself has asked of each shard's files, NONE where it never did."""
        return np.maximum(self._files.metadata, self._files.returned).astype(np.int32)

    def live_counts(self) -> npt.NDArray[np.int64]:
        """(S,) live items of each shard; the catalog's mean where an older listing did not count them."""
        mean = -(-self.item_count // max(self.shard_count, 1))
        return np.where(self._files.items == NONE, mean, self._files.items)

    @property
    def index_folder(self) -> str:
        """Where the index of this revision lies."""
        return index_folder(self.revision, self.attempt)

    def unused_paths(self) -> Iterator[str]:
        """The catalog's files that this revision, the newest, does not point at; safe to delete under a lease.

        What a listing never wrote is left alone.

        Raises:
            BusyError: There is a newer revision.
        """
        if newest_revision(self._store) != self.revision:
            raise BusyError(f"{self._store.root}: a listing committed a newer revision meanwhile: run it again")
        for entry in self._store.list(FOLDER):
            if is_catalog_file(entry.path) and not self._is_used(entry.path):
                yield entry.path

    def _is_used(self, path: str) -> bool:
        _, kind, name = path.split("/", 2)
        if kind == "index":
            return path.startswith(self.index_folder)
        if kind == "revisions":
            return path in (revision_path(self.revision), shard_files_path(self.revision, self.attempt))
        number = int(name.partition(".")[0])
        return number < self.shard_count and path == self._path_of(kind, number)

    def _path_of(self, kind: str, number: int) -> str:
        """The file of this kind that belongs to a shard; the shard must have one."""
        attempt = self._files.attempt(kind, number)
        if kind == "shards":
            return shard_path(number, attempt)
        if kind == "removed":
            return removed_path(number, int(self._files.removed[number]), attempt)
        if kind == "metadata":
            return metadata_path(number, int(self._files.metadata[number]), attempt)
        return locations_path(number, int(self._files.locations[number]), attempt)


def newest_revision(store: Store) -> int:
    """The number of the newest committed revision, 0 where there is none."""
    paths = (entry.path for entry in store.list(REVISIONS))
    names = (path[len(REVISIONS) :] for path in paths if path.endswith(".json") and is_catalog_file(path))
    return max((int(name.partition(".")[0]) for name in names), default=0)


def encode_revision(revision: Revision) -> bytes:
    """A revision as readable JSON."""
    return json.dumps(asdict(revision), indent=2).encode()
