"""The tars and Parquet files of which the catalog knows every item: a refresh need not read those again.

The list lies beside the index. A file is in it where nothing of it was left out, every item of it is live under the
file's own name, and no table has said more of them than the file does: then the index has all that reading it would
say. It is kept in memory: one entry a file, not an item.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

from records.items import Metadata
from storage.catalog_index import IndexRow, metadata_of, metadata_text
from storage.shard_files import DAMAGED
from storage.signed_urls import unsigned
from storage.source_items import LeftOut, ListedObject, SourceItem
from storage.source_objects import SourceObject
from storage.stores import Store
from storage.tables import decode_records, encode_records, undamaged

Known = Mapping[str, ListedObject]
"""URI to what was found when it was read last."""

_NAME = "objects.parquet"


def read_objects(store: Store, folder: str) -> dict[str, ListedObject]:
    """The list that lies beside the index in a folder; empty where there is none.

    Raises:
        ReelscribeError: It is damaged; names it.
    """
    try:
        with undamaged(store.uri(f"{folder}{_NAME}"), DAMAGED):
            return {one.uri: one for one in decode_records(ListedObject, store.read_bytes(f"{folder}{_NAME}"))}
    except FileNotFoundError:
        return {}


def object_file(folder: str, objects: Collection[ListedObject]) -> Iterator[tuple[str, bytes]]:
    """Path and content of the list; no file where it is empty."""
    if objects:
        yield f"{folder}{_NAME}", encode_records(ListedObject, [replace(one, kept=False) for one in objects])


def walk(
    source: SourceObject, known: Known, read_as: str, items: Callable[[SourceObject], Iterator[SourceItem | LeftOut]]
) -> Iterator[SourceItem | LeftOut | ListedObject]:
    """The items of a file, and what is to be kept of it; or that the catalog has them.

    Args:
        source: The file.
        known: The catalog's list.
        read_as: What else decides which items it has: another one, and the file is read again.
        items: Reads it.
    """
    entry, found = source.entry, known.get(source.uri)
    of_now = ListedObject(uri=source.uri, etag=entry.etag, size_bytes=entry.size_bytes, read_as=read_as, items=0)
    if found is not None and replace(found, items=0) == of_now:
        yield replace(found, kept=True)
        return
    count, whole = 0, bool(entry.etag) and unsigned(source.uri) == source.uri
    for item in items(source):
        whole &= isinstance(item, SourceItem)
        count += 1
        yield item
    if whole:
        yield replace(of_now, items=count)


class ObjectCounts:
    """Which files of a listing the next refresh need not read: counted while its items meet the index."""

    def __init__(self) -> None:
        self._listed: dict[str, ListedObject] = {}
        self._kept: dict[str, int] = {}
        self._placed: Counter[str] = Counter()
        self._altered: set[str] = set()

    def add(self, ordinal: int, listed: ListedObject) -> None:
        """A file was read, or the catalog has its items, at this place of the listing."""
        self._listed[listed.uri] = listed
        if listed.kept:
            self._kept[listed.uri] = ordinal

    def kept_items(self, rows: Collection[IndexRow]) -> list[tuple[int, SourceItem]]:
        """The items of files that were not read, as reading those would list them."""
        return sorted(
            ((self._kept[row.uri], _item_of(row)) for row in rows if row.live and row.uri in self._kept),
            key=lambda one: one[0],
        )

    def place(self, item: SourceItem, metadata: str) -> None:
        """An item is live, with this metadata."""
        if item.uri in self._listed:
            self._placed[item.uri] += 1
            if metadata != metadata_text(item.metadata or Metadata()):
                self._altered.add(item.uri)

    def known(self) -> list[ListedObject]:
        """The files of which the catalog has all items as they are, once every item is placed."""
        return [one for uri, one in self._listed.items() if one.items == self._placed[uri] and uri not in self._altered]


def _item_of(row: IndexRow) -> SourceItem:
    return SourceItem(
        video_id=row.video_id,
        uri=row.uri,
        size_bytes=row.size_bytes,
        etag=row.etag,
        byte_offset=row.byte_offset,
        row_index=row.row_index,
        column=row.column,
        metadata=metadata_of(row.metadata) if row.metadata else None,
    )
