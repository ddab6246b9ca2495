"""The files of a catalog's next revision, from a finished join: none of them has a name that another listing uses."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from records.items import CatalogItem
from storage.catalog import Catalog, MetadataRow, Removed
from storage.catalog_index import IndexRow, partition_of
from storage.catalog_join import RETURNED, Fresh, Join, metadata_row
from storage.catalog_locations import LocationWriter
from storage.catalog_paths import metadata_path, new_attempt, removed_path, shard_path
from storage.catalog_priority import ShardMeans
from storage.prefetch import answers
from storage.shard_files import FILE_KINDS, NONE, ShardFiles
from storage.shard_ids import shard_name
from storage.signed_urls import signature_digest
from storage.tables import encode_records

T = TypeVar("T")
Key = tuple[str, int]
"""Id and version of an item."""


class CatalogWriter:
    """Turns a finished join into the files of the next revision."""

    def __init__(self, base: Catalog | None, join: Join, shard_size: int, first_shard_items: int | None) -> None:
        self._base = base
        self._first_shard_items = min(first_shard_items or shard_size, shard_size)
        self._join = join
        self._shard_size = shard_size
        self.revision = 1 if base is None else base.revision + 1
        self.attempt = new_attempt()
        empty: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._removed = empty if base is None else base.files.removed.copy()
        self._metadata = empty if base is None else base.files.metadata.copy()
        self._titles = empty if base is None else base.files.titles.copy()
        self.locations = LocationWriter(base, join, self.revision, self.attempt)
        self._returned = empty if base is None else base.files.returned.copy()
        self._items = empty if base is None else base.live_counts().copy()
        self._means = ShardMeans({} if base is None else base.files.means)
        self._new_metadata: list[int] = []
        """Generation of the metadata of each new shard."""
        self._new_items: list[int] = []
        self._new_with_bytes: list[int] = []

    @property
    def shard_count(self) -> int:
        """Shards, the new ones included once they are written."""
        return len(self._removed) + len(self._new_metadata)

    def new_shards(self) -> Iterator[tuple[str, bytes]]:
        """Files of the new shards; their items enter the next index."""
        waiting: list[Fresh] = []
        for fresh in self._join.fresh_items():
            waiting.append(fresh)
            if len(waiting) >= self._next_size():
                yield from self._shard(waiting)
                waiting = []
        if waiting:
            yield from self._shard(waiting)

    def _next_size(self) -> int:
        return self._first_shard_items if self.shard_count == 0 else self._shard_size

    def _shard(self, rows: list[Fresh]) -> Iterator[tuple[str, bytes]]:
        number = self.shard_count
        titled = [metadata_row(row.item.video_id, row.item.version, row.metadata) for row in rows if row.metadata]
        self._new_metadata.append(0 if titled else NONE)
        self._new_items.append(len(rows))
        self._new_with_bytes.append(sum(row.item.size_bytes != 0 for row in rows))
        self._means.set(number, titled)
        for row in rows:
            self._join.index.add(partition_of(row.item.video_id), _index_row(row, number))
        yield shard_path(number, self.attempt), encode_records(CatalogItem, [row.item for row in rows])
        if titled:
            yield metadata_path(number, 0, self.attempt), encode_records(MetadataRow, titled)
        yield from self.locations.new_shard(number, rows)

    def removed_files(self, next_generation: Callable[[str], int]) -> Iterator[tuple[str, bytes]]:
        """A whole new `removed` file for each shard that lost items or got some back."""
        for part in self._join.removed.partitions():
            for (number, rows), (before, rows_before) in self._before(self._removals(part), bool(self._means.columns)):
                reasons = _with(before, rows)
                if any(row.reason == RETURNED for row in rows):
                    # What was made while the item was gone has no line of it: all files must be looked at again.
                    self._returned[number] = self._generation(next_generation, shard_name(number))
                self._items[number] += len(before) - len(reasons)
                self._removed[number] = self.revision
                if self._means.columns:
                    self._means.set(number, [rows_before[key] for key in rows_before if key not in reasons])
                ordered = [Removed(video_id=key[0], version=key[1], reason=reasons[key]) for key in sorted(reasons)]
                yield removed_path(number, self.revision, self.attempt), encode_records(Removed, ordered)

    def _removals(self, part: int) -> dict[int, list[Removed]]:
        """Shard to its items that are gone or back, of one part of the shards."""
        by_shard: defaultdict[int, list[Removed]] = defaultdict(list)
        for number, row in self._join.removed.read(part):
            by_shard[number].append(row)
        return by_shard

    def _generation(self, next_generation: Callable[[str], int], shard_id: str) -> int:
        """Above every file of the shard, and above what the catalog itself has asked for."""
        number = int(shard_id)
        return max(next_generation(shard_id), int(self._metadata[number]) + 1, int(self._returned[number]) + 1)

    def metadata_files(self, next_generation: Callable[[str], int]) -> Iterator[tuple[str, bytes]]:
        """A whole new metadata file for each shard where some was edited; a line keeps the generation of its title."""
        for part in self._join.edited.partitions():
            removals = self._removals(part)
            by_shard: defaultdict[int, dict[Key, MetadataRow]] = defaultdict(dict)
            for number, row in self._join.edited.read(part):
                by_shard[number][row.video_id, row.version] = row
            for (number, edited), (removed, rows) in self._before(by_shard, True):
                generation = self._generation(next_generation, shard_name(number))
                for key, row in edited.items():
                    before = rows.get(key, replace(row, title="", generation=0))
                    retitled = row.title != before.title
                    rows[key] = replace(row, generation=generation if retitled else before.generation)
                    if retitled:
                        self._titles[number] = generation
                self._metadata[number] = generation
                # A title that is gone leaves a line behind, which says when.
                ordered = [row for _, row in sorted(rows.items()) if row.title or row.extra or row.generation]
                gone = _with(removed, removals.get(number, ()))
                self._means.set(number, [row for row in ordered if (row.video_id, row.version) not in gone])
                yield metadata_path(number, generation, self.attempt), encode_records(MetadataRow, ordered)

    def _before(
        self, changes: Mapping[int, T], with_metadata: bool
    ) -> Iterator[tuple[tuple[int, T], tuple[dict[Key, str], dict[Key, MetadataRow]]]]:
        """Each change by its shard's number, with what was removed from that shard before, and the metadata it had.

        Those to come are asked for meanwhile: a night may change some item of every shard.
        """
        base = self._base
        assert base is not None, "only known items change"

        def ask(change: tuple[int, T]) -> tuple[dict[Key, str], dict[Key, MetadataRow]]:
            shard_id, generation = shard_name(change[0]), int(base.files.metadata[change[0]])
            rows = base.metadata_rows(shard_id, generation) if with_metadata and generation != NONE else []
            return base.removed(shard_id), {(row.video_id, row.version): row for row in rows}

        return answers(sorted(changes.items()), ask)

    def shard_files(self) -> ShardFiles:
        """Which files belong to each shard now."""
        fresh = np.asarray(self._new_metadata, dtype=np.int64)
        none = np.full(len(fresh), NONE, dtype=np.int64)
        removed, metadata = np.concatenate([self._removed, none]), np.concatenate([self._metadata, fresh])
        locations = self.locations.revisions()
        return ShardFiles(
            removed=removed,
            metadata=metadata,
            titles=np.concatenate([self._titles, fresh]),
            locations=locations,
            returned=np.concatenate([self._returned, none]),
            items=np.concatenate([self._items, np.asarray(self._new_items, dtype=np.int64)]),
            with_bytes=self._with_bytes(),
            means=self._means.arrays(self.shard_count),
            attempts=self._attempts({"removed": removed, "metadata": metadata, "locations": locations}),
        )

    def _with_bytes(self) -> npt.NDArray[np.int64]:
        before = None if self._base is None else self._base.files.with_bytes
        known = np.full(len(self._items), NONE, dtype=np.int64) if before is None else before
        return np.concatenate([known, np.asarray(self._new_with_bytes, dtype=np.int64)])

    def _attempts(self, columns: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, npt.NDArray[np.int64]]:
        """Kind to (S,) attempt: this one for new shards and for files that are others than before."""
        before = None if self._base is None else self._base.files
        known = len(self._removed)
        attempts: dict[str, npt.NDArray[np.int64]] = {}
        for kind in FILE_KINDS:
            values = np.full(self.shard_count, NONE, dtype=np.int64)
            if before is not None and kind in before.attempts:
                values[:known] = before.attempts[kind]
            changed = np.arange(self.shard_count) >= known
            if kind in columns:
                changed = columns[kind] != NONE
                if before is not None:
                    changed[:known] &= columns[kind][:known] != getattr(before, kind)
            values[changed] = self.attempt
            attempts[kind] = values
        return attempts


def _with(reasons: Mapping[Key, str], rows: Iterable[Removed]) -> dict[Key, str]:
    """Identity to reason of a shard's items that are no longer live, once these rows count."""
    after = dict(reasons)
    for row in rows:
        if row.reason == RETURNED:
            del after[row.video_id, row.version]
        else:
            after[row.video_id, row.version] = row.reason
    return after


def _index_row(row: Fresh, shard: int) -> IndexRow:
    item = row.item
    return IndexRow(
        video_id=item.video_id,
        version=item.version,
        shard=shard,
        live=True,
        uri=item.uri,
        size_bytes=item.size_bytes,
        etag=item.etag,
        byte_offset=item.byte_offset,
        metadata=row.metadata,
        row_index=item.row_index,
        column=item.column,
        signature=signature_digest(row.location) if row.location else "",
    )
