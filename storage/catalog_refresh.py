"""Brings a catalog up to date with a listing, in memory that grows with neither.

New and changed content goes into new shards in listing order; deleted content gets a tombstone; an edited title writes
the next metadata generation of its shard alone. Nothing counts until the revision's own file is created, last: a
refresh killed before that leaves files that nothing points at, and the next one writes over them.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from records.errors import BusyError, UserError
from records.items import CatalogItem, Metadata
from storage.catalog import (
    Catalog,
    MetadataRow,
    Removed,
    Revision,
    encode_revision,
    metadata_path,
    removed_path,
    revision_path,
    shard_files_path,
    shard_path,
)
from storage.catalog_change import CatalogChange
from storage.catalog_index import IndexRow, index_files, index_folder, partition_of, read_index
from storage.catalog_join import RETURNED, Fresh, Join, metadata_row
from storage.catalog_locations import LocationWriter
from storage.catalog_priority import ShardMeans
from storage.shard_files import NONE, ShardFiles
from storage.shard_ids import shard_name
from storage.signed_urls import signature_digest
from storage.source_items import Listing
from storage.stores import Store
from storage.tables import encode_records


class _Writer:
    """Turns a finished join into the files of the next revision."""

    def __init__(self, base: Catalog | None, join: Join, shard_size: int, first_shard_items: int | None) -> None:
        self._base = base
        self._first_shard_items = min(first_shard_items or shard_size, shard_size)
        self._join = join
        self._shard_size = shard_size
        self.revision = 1 if base is None else base.revision + 1
        empty: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._removed = empty if base is None else base.files.removed.copy()
        self._metadata = empty if base is None else base.files.metadata.copy()
        self._titles = empty if base is None else base.files.titles.copy()
        self.locations = LocationWriter(base, join, self.revision)
        self._returned = empty if base is None else base.files.returned.copy()
        self._items = empty if base is None else base.live_counts().copy()
        self._means = ShardMeans({} if base is None else base.files.means)
        self._new_metadata: list[int] = []
        """Generation of the metadata of each new shard."""
        self._new_items: list[int] = []

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
        self._means.set(number, titled)
        for row in rows:
            self._join.index.add(partition_of(row.item.video_id), _index_row(row, number))
        yield shard_path(number), encode_records(CatalogItem, [row.item for row in rows])
        if titled:
            yield metadata_path(number, 0), encode_records(MetadataRow, titled)
        yield from self.locations.new_shard(number, rows)

    def removed_files(self, next_generation: Callable[[str], int]) -> Iterator[tuple[str, bytes]]:
        """A whole new `removed` file for each shard that lost items or got some back."""
        for part in self._join.removed.partitions():
            by_shard: defaultdict[int, list[Removed]] = defaultdict(list)
            for number, row in self._join.removed.read(part):
                by_shard[number].append(row)
            for number, rows in sorted(by_shard.items()):
                assert self._base is not None, "only known items are removed"
                shard_id = shard_name(number)
                reasons = self._base.removed(shard_id)
                before = len(reasons)
                for row in rows:
                    if row.reason != RETURNED:
                        reasons[row.video_id, row.version] = row.reason
                        continue
                    del reasons[row.video_id, row.version]
                    # What was made while the item was gone has no line of it: all files must be looked at again.
                    self._returned[number] = self._generation(next_generation, shard_id)
                self._items[number] += before - len(reasons)
                self._removed[number] = self.revision
                ordered = [Removed(video_id=key[0], version=key[1], reason=reasons[key]) for key in sorted(reasons)]
                yield removed_path(number, self.revision), encode_records(Removed, ordered)

    def _generation(self, next_generation: Callable[[str], int], shard_id: str) -> int:
        """Above every file of the shard, and above what the catalog itself has asked for."""
        number = int(shard_id)
        return max(next_generation(shard_id), int(self._metadata[number]) + 1, int(self._returned[number]) + 1)

    def metadata_files(self, next_generation: Callable[[str], int]) -> Iterator[tuple[str, bytes]]:
        """A whole new metadata file for each shard where some was edited; a line keeps the generation of its title."""
        for part in self._join.edited.partitions():
            by_shard: defaultdict[int, dict[tuple[str, int], MetadataRow]] = defaultdict(dict)
            for number, row in self._join.edited.read(part):
                by_shard[number][row.video_id, row.version] = row
            for number, edited in sorted(by_shard.items()):
                generation = self._generation(next_generation, shard_name(number))
                rows = self._metadata_before(number)
                for key, row in edited.items():
                    before = rows.get(key, replace(row, title="", generation=0))
                    retitled = row.title != before.title
                    rows[key] = replace(row, generation=generation if retitled else before.generation)
                    if retitled:
                        self._titles[number] = generation
                self._metadata[number] = generation
                # A title that is gone leaves a line behind, which says when.
                ordered = [row for _, row in sorted(rows.items()) if row.title or row.extra or row.generation]
                self._means.set(number, ordered)
                yield metadata_path(number, generation), encode_records(MetadataRow, ordered)

    def _metadata_before(self, number: int) -> dict[tuple[str, int], MetadataRow]:
        assert self._base is not None, "only known items are edited"
        generation = int(self._base.files.metadata[number])
        if generation == NONE:
            return {}
        return {(row.video_id, row.version): row for row in self._base.metadata_rows(shard_name(number), generation)}

    def shard_files(self) -> ShardFiles:
        """Which files belong to each shard now."""
        fresh = np.asarray(self._new_metadata, dtype=np.int64)
        none = np.full(len(fresh), NONE, dtype=np.int64)
        return ShardFiles(
            removed=np.concatenate([self._removed, none]),
            metadata=np.concatenate([self._metadata, fresh]),
            titles=np.concatenate([self._titles, fresh]),
            locations=self.locations.revisions(),
            returned=np.concatenate([self._returned, none]),
            items=np.concatenate([self._items, np.asarray(self._new_items, dtype=np.int64)]),
            means=self._means.arrays(self.shard_count),
        )


def refresh(
    store: Store,
    listing: Listing,
    metadata: Iterable[tuple[str, Metadata]] | None,
    source: str,
    shard_size: int,
    next_metadata_generation: Callable[[str], int],
    first_shard_items: int | None = None,
    order_by: str | None = None,
    source_format: str = "files",
) -> CatalogChange:
    """Commits a listing as the catalog's next revision, unless it changes nothing. The caller holds the lease.

    Args:
        listing: Each id once; of several items with one id the first counts. What was left out is counted.
        metadata: Id and metadata, of several lines with one id the first; an item that it does not name keeps its own.
        source: What was listed, the same for the life of a catalog.
        shard_size: Most items in each new shard.
        next_metadata_generation: For the id of a shard whose metadata is edited, or of which a deleted item came back,
            a generation above that of every table made from it.
        first_shard_items: Items of the catalog's very first shard, so that a first try of a few items is a whole shard.
        order_by: A numeric metadata column: new shards are cut with its high values first, instead of in listing order.
        source_format: How the source was read, likewise the same for the life of a catalog.

    Raises:
        UserError: The catalog lists another source, `shard_size` is below 1, or no item has a number in `order_by`.
        BusyError: Another refresh committed this revision meanwhile.
    """
    if shard_size < 1:
        raise UserError(f"shard_size must be at least 1, not {shard_size}")
    base = Catalog.open(store)
    if base is not None:
        base.check_source(source, source_format)
    with tempfile.TemporaryDirectory(prefix="catalog-refresh-") as folder:
        join = Join(Path(folder), order_by)
        join.take(listing, metadata if metadata is not None else ())
        join.run(read_index(store, base.revision) if base is not None else iter(()))
        counts = join.counts
        changes = (counts.new, counts.changed, counts.deleted, counts.returned, counts.metadata_changed)
        changed = any(changes) or counts.relocated
        if base is not None and not changed:
            if order_by is not None:
                base.files.mean_of(order_by)
            return CatalogChange.of(base.revision, counts)
        writer = _Writer(base, join, shard_size, first_shard_items)
        store.create_many(writer.new_shards())
        store.create_many(writer.removed_files(next_metadata_generation))
        store.create_many(writer.locations.known_shards())
        store.create_many(writer.metadata_files(next_metadata_generation))
        # A killed refresh may have cut its files elsewhere: none of them may lie beside this one's.
        store.delete([entry.path for entry in store.list(index_folder(writer.revision))])
        store.create_many(index_files(writer.revision, join.index))
    shard_files = writer.shard_files()
    if order_by is not None:
        shard_files.mean_of(order_by)  # nothing is committed yet
    store.create_many([(shard_files_path(writer.revision), shard_files.encode())])
    _commit(store, writer, join, source, source_format, shard_size)
    if base is not None:
        store.delete([entry.path for entry in store.list(index_folder(base.revision))])
    return CatalogChange.of(writer.revision, counts)


def _commit(store: Store, writer: _Writer, join: Join, source: str, source_format: str, shard_size: int) -> None:
    counts = join.counts
    revision = Revision(
        revision=writer.revision,
        source=source,
        shard_size=shard_size,
        shard_count=writer.shard_count,
        item_count=counts.new + counts.changed + counts.unchanged + counts.returned,
        new=counts.new,
        changed=counts.changed,
        deleted=counts.deleted,
        unchanged=counts.unchanged,
        metadata_changed=counts.metadata_changed,
        format=source_format,
        relocated=counts.relocated,
        left_out=dict(sorted(counts.left_out.items())),
        returned=counts.returned,
    )
    if not store.create(revision_path(writer.revision), encode_revision(revision)):
        raise BusyError(f"{store.root}: another listing committed revision {writer.revision} meanwhile")


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
