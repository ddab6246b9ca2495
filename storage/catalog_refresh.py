"""Brings a catalog up to date with a listing, in memory that grows with neither.

New and changed content goes into new shards in listing order; deleted content gets a tombstone; an edited title writes
the next metadata generation of its shard alone. Nothing counts until the revision's own file is created, last. All
other files that a refresh writes carry its attempt in their names, and it deletes none but its own where it fails and
the index of the revision that it has just replaced: one that is killed leaves files that nothing points at, which
`jobs.prune` removes, and one that goes on after it lost its lease harms nobody's. One gap remains: a refresh that loses
its lease between its last look at it and its commit may commit files that a prune has removed in that moment.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator

from records.errors import BusyError, ReelscribeError, UserError
from records.items import Metadata
from storage.catalog import Catalog, Revision, encode_revision, newest_revision
from storage.catalog_change import CatalogChange
from storage.catalog_index import index_files, read_index
from storage.catalog_join import Join
from storage.catalog_objects import object_file
from storage.catalog_paths import FOLDER, index_folder, is_of_attempt, revision_path, shard_files_path
from storage.catalog_source import check_source
from storage.catalog_writer import CatalogWriter
from storage.columns import Columns
from storage.leases import Check, unchecked
from storage.source_items import Listing
from storage.spill import spill_folder
from storage.stores import Store
from storage.told import told


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
    columns: Columns | None = None,
    check: Check = unchecked,
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
        columns: Names of its columns that the user gave, now or before.
        check: Called before each write, with `ask` before the last: raises BusyError where the caller's lease was lost.

    Raises:
        UserError: The catalog lists another source, `shard_size` is below 1, or no item has a number in `order_by`.
        BusyError: Another refresh committed this revision meanwhile, or `check` raised it.
        ReelscribeError: The catalog has items and its index is gone.
    """
    if shard_size < 1:
        raise UserError(f"shard_size must be at least 1, not {shard_size}")
    columns = columns if columns is not None else Columns()
    base = Catalog.open(store)
    if base is not None:
        check_source(base, store.root, source, source_format, columns)
    with spill_folder() as folder:
        join = Join(folder, order_by)
        join.take(listing, metadata if metadata is not None else ())
        _compare(store, base, join)
        counts = join.counts
        if base is not None and not counts.any_change:
            if order_by is not None:
                base.files.mean_of(order_by)
            return CatalogChange.of(base.revision, counts)
        writer = CatalogWriter(base, join, shard_size, first_shard_items)
        with _removed_on_failure(store, writer):
            for files in _all_files(writer, join, next_metadata_generation, order_by):
                _refuse_overtaken(store, base)
                store.create_many(_checked(files, check))
            check(ask=True)
    _commit(store, writer, join, source, source_format, columns, shard_size)
    if base is not None:
        store.delete([entry.path for entry in store.list(base.index_folder)])
    return CatalogChange.of(writer.revision, counts)


def _compare(store: Store, base: Catalog | None, join: Join) -> None:
    try:
        join.run(read_index(store, base.index_folder) if base is not None and base.shard_count else iter(()))
    except (FileNotFoundError, ReelscribeError):
        _refuse_overtaken(store, base)  # who commits the next revision removes the index of this one
        raise


def _refuse_overtaken(store: Store, base: Catalog | None) -> None:
    known = 0 if base is None else base.revision
    if (newest := newest_revision(store)) != known:
        raise BusyError(f"{store.root}: another listing committed revision {newest} meanwhile")


def _all_files(
    writer: CatalogWriter, join: Join, next_metadata_generation: Callable[[str], int], order_by: str | None
) -> Iterator[Iterable[tuple[str, bytes]]]:
    """What a revision is made of, but for its own file, in the order of writing: each group made as it is written."""
    yield writer.new_shards()
    yield writer.removed_files(next_metadata_generation)
    yield writer.locations.known_shards()
    yield writer.metadata_files(next_metadata_generation)
    yield index_files(index_folder(writer.revision, writer.attempt), join.index)
    yield object_file(index_folder(writer.revision, writer.attempt), join.objects.known())
    yield _shard_files(writer, order_by)


@contextlib.contextmanager
def _removed_on_failure(store: Store, writer: CatalogWriter) -> Iterator[None]:
    """Takes what an attempt has written away again where it fails."""
    try:
        yield
    except (ReelscribeError, OSError):
        with contextlib.suppress(ReelscribeError, OSError):  # what is left goes with the next jobs.prune
            store.delete([entry.path for entry in store.list(FOLDER) if is_of_attempt(entry.path, writer.attempt)])
        raise


def _checked(files: Iterable[tuple[str, bytes]], check: Check) -> Iterator[tuple[str, bytes]]:
    """The files, each after another look at the lease."""
    for file in told(files, "wrote %s files of the catalog's next revision"):
        check()
        yield file


def _shard_files(writer: CatalogWriter, order_by: str | None) -> Iterator[tuple[str, bytes]]:
    """Which files belong to each shard, once all of them are written."""
    shard_files = writer.shard_files()
    if order_by is not None:
        shard_files.mean_of(order_by)
    yield shard_files_path(writer.revision, writer.attempt), shard_files.encode()


def _commit(
    store: Store,
    writer: CatalogWriter,
    join: Join,
    source: str,
    source_format: str,
    columns: Columns,
    shard_size: int,
) -> None:
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
        columns=columns.given(),
        relocated=counts.relocated,
        left_out=dict(sorted(counts.left_out.items())),
        returned=counts.returned,
        attempt=writer.attempt,
    )
    if not store.create(revision_path(writer.revision), encode_revision(revision)):
        raise BusyError(f"{store.root}: another listing committed revision {writer.revision} meanwhile")
