"""The comparison inside a refresh: what was listed against what the catalog knows, by id, in bounded memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from heapq import merge
from pathlib import Path

from records.items import CatalogItem, Metadata
from storage.catalog import Location, MetadataRow, Removed
from storage.catalog_index import PARTITIONS, IndexRow, metadata_of, metadata_text, partition_of
from storage.catalog_objects import ObjectCounts
from storage.catalog_priority import priority_part
from storage.etags import differ
from storage.metadata import overlaid
from storage.signed_urls import signature_digest, unsigned
from storage.source_items import LeftOut, LeftOutReason, ListedObject, Listing, SourceItem, shown
from storage.spill import Spill
from storage.told import told

ORDINALS_A_PART = 65_536
"""Places in the listing that are sorted in memory at a time."""

SHARDS_A_PART = 128
"""Shards whose removed and edited items are gathered in memory at a time."""

USUAL_TEXT = 1024
"""Characters of an item and its metadata for which these numbers are meant: where they are more, parts hold fewer."""

RETURNED = "returned"
"""Stands in `removed` for an item that is live again."""

_NAMED = 5


@dataclass(slots=True)
class Counts:
    """What a listing changed, so far."""

    new: int = 0
    changed: int = 0
    deleted: int = 0
    unchanged: int = 0
    returned: int = 0
    metadata_changed: int = 0
    relocated: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason to how many."""
    left_out_names: dict[str, list[str]] = field(default_factory=dict)
    """Reason to the first few of them."""
    metadata_unmatched: int = 0
    metadata_repeated: int = 0

    @property
    def any_change(self) -> bool:
        """Whether the catalog does not say all of it already."""
        return any((self.new, self.changed, self.deleted, self.returned, self.metadata_changed, self.relocated))

    def leave_out(self, reason: LeftOutReason, name: str) -> None:
        """Counts what became no item."""
        self.left_out[reason.value] = self.left_out.get(reason.value, 0) + 1
        names = self.left_out_names.setdefault(reason.value, [])
        if len(names) < _NAMED:
            names.append(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """An item on its way into a new shard."""

    ordinal: int
    item: CatalogItem
    metadata: str
    location: str = ""
    """The presigned URL, or empty."""


class Join:
    """One listing and what the catalog knows, set aside by part and compared part by part.

    Args:
        folder: Local disk for what does not fit in memory.
        order_by: A numeric metadata column whose high values go into the first of the new shards.
    """

    def __init__(self, folder: Path, order_by: str | None = None) -> None:
        self.counts = Counts()
        self.objects = ObjectCounts()
        self._order_by = order_by
        self._ordinals_a_part, self._shards_a_part = ORDINALS_A_PART, SHARDS_A_PART
        self._incoming: Spill[tuple[int, SourceItem]] = Spill(folder / "incoming")
        self._titles: Spill[tuple[str, str]] = Spill(folder / "titles")
        self.index: Spill[IndexRow] = Spill(folder / "index")
        """What the next index will hold, by `partition_of`."""
        self.fresh: Spill[Fresh] = Spill(folder / "fresh")
        """Items for new shards, by a stretch of the listing, or by priority."""
        self.removed: Spill[tuple[int, Removed]] = Spill(folder / "removed")
        """Items no longer live, or `RETURNED`, with the number of their shard, by a stretch of the shards."""
        self.edited: Spill[tuple[int, MetadataRow]] = Spill(folder / "edited")
        """Changed metadata of known items, likewise."""
        self.located: Spill[tuple[int, Location]] = Spill(folder / "located")
        """New presigned URLs of known items, likewise."""

    def take(self, listing: Listing, metadata: Iterable[tuple[str, Metadata]]) -> None:
        """Sets the listing and its metadata aside."""
        items = 1
        for ordinal, item in enumerate(told(listing, "listed %s so far")):
            if isinstance(item, LeftOut):
                self.counts.leave_out(item.reason, item.name)
            elif isinstance(item, ListedObject):
                self.objects.add(ordinal, item)
            else:
                self._incoming.add(partition_of(item.video_id), (ordinal, item))
                items += 1
        for video_id, values in metadata:
            self._titles.add(partition_of(video_id), (video_id, metadata_text(values)))
        times = max(1, (self._incoming.text_length + self._titles.text_length) // items // USUAL_TEXT)
        self._ordinals_a_part = max(1, ORDINALS_A_PART // times)
        self._shards_a_part = max(1, SHARDS_A_PART // times)

    def run(self, known: Iterator[tuple[int, list[IndexRow]]]) -> None:
        """Compares with the index, given part by part; fills `index`, `fresh`, `removed`, `edited` and `counts`."""
        part, rows = next(known, (PARTITIONS, []))
        for current in told(range(PARTITIONS), f"compared %s of {PARTITIONS:,} parts with the catalog"):
            matching: list[IndexRow] = []
            if part == current:
                matching = rows
                part, rows = next(known, (PARTITIONS, []))
            self._join_part(current, {row.video_id: row for row in matching})

    def _join_part(self, part: int, known: dict[str, IndexRow]) -> None:
        titles: dict[str, str] = {}
        for video_id, text in self._titles.read(part):
            self.counts.metadata_repeated += video_id in titles
            titles.setdefault(video_id, text)
        seen: set[str] = set()
        kept = self.objects.kept_items(known.values())
        for ordinal, item in merge(self._incoming.read(part), kept, key=lambda one: one[0]):
            if item.video_id in seen:
                self.counts.leave_out(LeftOutReason.REPEATED_ID, shown(item.video_id))
                continue
            seen.add(item.video_id)
            self._place(part, ordinal, item, known.get(item.video_id), titles.get(item.video_id))
        self.counts.metadata_unmatched += len(titles.keys() - seen)
        for row in known.values():
            if row.video_id not in seen:
                self._delete(part, row)

    def _place(self, part: int, ordinal: int, item: SourceItem, row: IndexRow | None, given: str | None) -> None:
        text = _metadata_text(item.metadata, given, "" if row is None else row.metadata)
        self.objects.place(item, text)
        if row is not None and _same_content(item, row):
            if row.live:
                self.counts.unchanged += 1
            else:
                self.counts.returned += 1
                self._remove(row, RETURNED)
            if text != row.metadata:
                self.counts.metadata_changed += row.live
                self.edited.add(
                    row.shard // self._shards_a_part, (row.shard, metadata_row(row.video_id, row.version, text))
                )
            self._locate(item, row)
            self.index.add(part, _learned(item, row, text))
            return
        if row is not None and row.live:
            self.counts.changed += 1
            self._remove(row, "superseded")
        else:
            self.counts.new += 1
        version = 1 if row is None else row.version + 1
        catalog_item = CatalogItem(
            video_id=item.video_id,
            version=version,
            uri=unsigned(item.uri),
            size_bytes=item.size_bytes,
            etag=item.etag,
            byte_offset=item.byte_offset,
            row_index=item.row_index,
            column=item.column,
        )
        location = "" if catalog_item.uri == item.uri else item.uri
        place = ordinal // self._ordinals_a_part if self._order_by is None else priority_part(text, self._order_by)
        self.fresh.add(place, Fresh(ordinal=ordinal, item=catalog_item, metadata=text, location=location))

    def _locate(self, item: SourceItem, row: IndexRow) -> None:
        """Takes an unchanged item's URL in where it was signed anew; one that is no longer signed replaces it too."""
        if signature_digest(item.uri) != row.signature:
            self.counts.relocated += 1
            location = Location(video_id=row.video_id, version=row.version, uri=item.uri)
            self.located.add(row.shard // self._shards_a_part, (row.shard, location))

    def fresh_items(self) -> Iterator[Fresh]:
        """The items for new shards: in listing order, or by falling priority, of which 6 % count as equal."""
        for part in self.fresh.partitions():
            rows = self.fresh.read(part)
            yield from rows if self._order_by is not None else sorted(rows, key=lambda fresh: fresh.ordinal)

    def _delete(self, part: int, row: IndexRow) -> None:
        if row.live:
            self.counts.deleted += 1
            self._remove(row, "deleted")
        self.index.add(part, replace(row, live=False))

    def _remove(self, row: IndexRow, reason: str) -> None:
        removed = Removed(video_id=row.video_id, version=row.version, reason=reason)
        self.removed.add(row.shard // self._shards_a_part, (row.shard, removed))


def _same_content(item: SourceItem, row: IndexRow) -> bool:
    """Whether nothing says that the content is another one: neither a signature nor what is unknown on a side does."""
    if item.size_bytes != row.size_bytes and item.size_bytes is not None and row.size_bytes is not None:
        return False
    if differ(item.etag, row.etag):
        return False
    here, there = (item.byte_offset, item.row_index, item.column), (row.byte_offset, row.row_index, row.column)
    return here == there and (item.uri == row.uri or unsigned(item.uri) == row.uri)


def _learned(item: SourceItem, row: IndexRow, metadata: str) -> IndexRow:
    """What the index knows of an unchanged item now."""
    return replace(
        row,
        metadata=metadata,
        size_bytes=row.size_bytes if item.size_bytes is None else item.size_bytes,
        etag=item.etag or row.etag,
        signature=signature_digest(item.uri),
        live=True,
    )


def _metadata_text(stated: Metadata | None, given: str | None, kept: str) -> str:
    """An item's metadata: the table's line over what the source states; what neither names keeps what it has."""
    if stated is None:
        return kept if given is None else given
    return metadata_text(stated if given is None else overlaid(stated, metadata_of(given)))


def metadata_row(video_id: str, version: int, text: str) -> MetadataRow:
    """A line of a shard's metadata file from what the index holds."""
    metadata = metadata_of(text)
    return MetadataRow(video_id=video_id, version=version, title=metadata.title, extra=metadata.extra)
