"""The catalog: a frozen, append-only list of items in shards, and what later listings said about them.

    catalog/revisions/<n>.json                    written last: it commits listing n and says how many shards there are
    catalog/revisions/<n>.shards.parquet          one line a shard: which of the files below belong to revision n
    catalog/shards/<shard_id>.parquet             the items of a shard, written once
    catalog/removed/<shard_id>.<n>.parquet        items of it that revision n or an earlier one superseded or deleted
    catalog/metadata/<shard_id>.<g>.parquet       titles and further columns, generation g
    catalog/locations/<shard_id>.<n>.parquet      presigned URLs of its items, as they were at revision n
    catalog/index/<n>/items-<p>.parquet           every id ever seen, by hash: what the next listing is joined with

Whatever the newest revision does not point at was left by a listing that was killed, and counts for nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from records.errors import UserError
from records.items import CatalogItem, Metadata
from storage.faults import redact
from storage.shard_files import DAMAGED, NONE, ShardFiles
from storage.shard_ids import ShardIds, shard_name
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
    relocated: int = 0
    """Unchanged items whose URL was signed anew."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What of the source became no item: reason to count."""
    returned: int = 0
    """Items that were deleted and are back with the same content: live again under their old version."""


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
        newest = None
        for entry in store.list("catalog/revisions/"):
            if entry.path.endswith(".json"):
                newest = entry.path
        return None if newest is None else cls._read(store, newest)

    @classmethod
    def at(cls, store: Store, revision: int) -> "Catalog":
        """The catalog as one revision left it, whatever was listed since.

        Raises:
            FileNotFoundError: It is not there, or not any more.
        """
        return cls._read(store, revision_path(revision))

    @classmethod
    def _read(cls, store: Store, path: str) -> "Catalog":
        with undamaged(store.uri(path), DAMAGED):
            revision = Revision(**json.loads(store.read_bytes(path)))
        table = shard_files_path(revision.revision)
        with undamaged(store.uri(table), DAMAGED):
            return cls(store, revision, ShardFiles.decode(store.read_bytes(table)))

    def _records(self, record: type[T], path: str) -> list[T]:
        with undamaged(self._store.uri(path), DAMAGED):
            return decode_records(record, self._store.read_bytes(path))

    @property
    def revision(self) -> int:
        """The revision's number, from 1."""
        return self._revision.revision

    @property
    def source(self) -> str:
        """The URI that was listed."""
        return self._revision.source

    @property
    def format(self) -> str:
        """How the source is read."""
        return self._revision.format

    def check_source(self, source: str, source_format: str | None) -> None:
        """Sees that a source is the one listed here.

        Args:
            source: As a listing names it.
            source_format: How it is to be read; None for whatever the catalog has.

        Raises:
            UserError: It is another, or read in another way.
        """
        words = ""
        if self.source != source:
            words = f"its catalog lists {redact(self.source)}, not {redact(source)}"
        elif source_format not in (None, self.format):
            words = f"its catalog lists {redact(source)} with --format {self.format}, not {source_format}"
        if words:
            raise UserError(f"{self._store.root}: {words}: choose another output")

    @property
    def shard_count(self) -> int:
        """Shards, those without live items included."""
        return self._revision.shard_count

    @property
    def item_count(self) -> int:
        """Live items."""
        return self._revision.item_count

    @property
    def change(self) -> Revision:
        """What the newest listing found."""
        return self._revision

    @property
    def files(self) -> ShardFiles:
        """Which files belong to each shard."""
        return self._files

    def shard_ids(self) -> ShardIds:
        """Every shard's id, in order."""
        return ShardIds(range(self.shard_count))

    def read_shard(self, shard_id: str) -> list[CatalogItem]:
        """All items of a shard in listing order, the removed ones included."""
        return self._records(CatalogItem, shard_path(int(shard_id)))

    def removed(self, shard_id: str) -> dict[tuple[str, int], str]:
        """Identity to reason, for each item of the shard that is no longer live."""
        revision = int(self._files.removed[int(shard_id)])
        if revision == NONE:
            return {}
        rows = self._records(Removed, removed_path(int(shard_id), revision))
        return {(row.video_id, row.version): row.reason for row in rows}

    def locations(self, shard_id: str) -> dict[tuple[str, int], str]:
        """Identity to presigned URL, for each item of the shard that has one: to fetch from, never to be shown."""
        revision = int(self._files.locations[int(shard_id)])
        if revision == NONE:
            return {}
        rows = self._records(Location, locations_path(int(shard_id), revision))
        return {(row.video_id, row.version): row.uri for row in rows}

    def newest_metadata(self, shard_id: str) -> dict[tuple[str, int], Metadata]:
        """Identity to metadata, for each item of the shard that has any."""
        generation = int(self._files.metadata[int(shard_id)])
        return {} if generation == NONE else self.read_metadata(shard_id, generation)

    def read_metadata(self, shard_id: str, generation: int) -> dict[tuple[str, int], Metadata]:
        """Identity to metadata, for each item of the shard that has any, at one generation."""
        rows = self.metadata_rows(shard_id, generation)
        return {(row.video_id, row.version): Metadata(title=row.title, extra=row.extra) for row in rows}

    def metadata_rows(self, shard_id: str, generation: int) -> list[MetadataRow]:
        """The same as the lines of the file, each with the generation of its title."""
        return self._records(MetadataRow, metadata_path(int(shard_id), generation))

    def highest_generations(self) -> npt.NDArray[np.int32]:
        """(S,) highest generation that the catalog itself has asked of each shard's files, NONE where it never did."""
        return np.maximum(self._files.metadata, self._files.returned).astype(np.int32)

    def live_counts(self) -> npt.NDArray[np.int64]:
        """(S,) live items of each shard; the catalog's mean where an older listing did not count them."""
        mean = -(-self.item_count // max(self.shard_count, 1))
        return np.where(self._files.items == NONE, mean, self._files.items)

    def metadata_generations(self) -> Iterator[tuple[str, int]]:
        """Shard and its newest generation, in order, for each shard that has metadata."""
        for number in np.flatnonzero(self._files.metadata != NONE):
            yield shard_name(int(number)), int(self._files.metadata[number])

    def unused_paths(self) -> Iterator[str]:
        """Files that this revision, the newest, does not point at; safe to delete under a lease."""
        for entry in self._store.list("catalog/"):
            _, kind, name = entry.path.split("/", 2)
            if not self._is_used(kind, name):
                yield entry.path

    def _is_used(self, kind: str, name: str) -> bool:
        number, _, rest = name.partition(".")
        if kind == "index":
            return name.startswith(f"{self.revision:08d}/")
        if kind == "revisions":
            return int(number) == self.revision
        if kind == "shards":
            return int(number) < self.shard_count
        column = {
            "removed": self._files.removed,
            "metadata": self._files.metadata,
            "locations": self._files.locations,
        }[kind]
        return int(number) < self.shard_count and int(column[int(number)]) == int(rest.partition(".")[0])


def revision_path(revision: int) -> str:
    """The file whose creation commits a listing."""
    return f"catalog/revisions/{revision:08d}.json"


def shard_files_path(revision: int) -> str:
    """The table of `ShardFiles`."""
    return f"catalog/revisions/{revision:08d}.shards.parquet"


def shard_path(number: int) -> str:
    """A shard's items."""
    return f"catalog/shards/{shard_name(number)}.parquet"


def removed_path(number: int, revision: int) -> str:
    """A shard's items that are no longer live, at a revision."""
    return f"catalog/removed/{shard_name(number)}.{revision}.parquet"


def locations_path(number: int, revision: int) -> str:
    """A shard's presigned URLs, at a revision."""
    return f"catalog/locations/{shard_name(number)}.{revision}.parquet"


def metadata_path(number: int, generation: int) -> str:
    """A shard's metadata."""
    return f"catalog/metadata/{shard_name(number)}.{generation}.parquet"


def encode_revision(revision: Revision) -> bytes:
    """A revision as readable JSON."""
    return json.dumps(asdict(revision), indent=2).encode()
