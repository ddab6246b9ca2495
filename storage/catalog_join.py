"""The comparison inside a refresh: what was listed against what the catalog knows, by id, in bounded memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from records.items import CatalogItem, Metadata
from storage.catalog import MetadataRow, Removed
from storage.catalog_index import PARTITIONS, IndexRow, metadata_of, metadata_text, partition_of
from storage.catalog_priority import priority_part
from storage.sources import SourceItem
from storage.spill import Spill

ORDINALS_A_PART = 65_536
"""Places in the listing that are sorted in memory at a time."""

SHARDS_A_PART = 128
"""Shards whose removed and edited items are gathered in memory at a time."""

RETURNED = "returned"
"""Stands in `removed` for an item that is live again."""

_NAMED_DUPLICATES = 5


@dataclass(slots=True)
class Counts:
    """What a listing changed, so far."""

    new: int = 0
    changed: int = 0
    deleted: int = 0
    unchanged: int = 0
    returned: int = 0
    metadata_changed: int = 0
    duplicates: int = 0
    duplicate_ids: list[str] = field(default_factory=list)
    metadata_unmatched: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """An item on its way into a new shard."""

    ordinal: int
    item: CatalogItem
    metadata: str


class Join:
    """One listing and what the catalog knows, set aside by part and compared part by part.

    Args:
        folder: Local disk for what does not fit in memory.
        order_by: A numeric metadata column whose high values go into the first of the new shards.
    """

    def __init__(self, folder: Path, order_by: str | None = None) -> None:
        self.counts = Counts()
        self._order_by = order_by
        self._incoming: Spill[tuple[int, SourceItem]] = Spill(folder / "incoming")
        self._titles: Spill[tuple[str, str]] = Spill(folder / "titles")
        self.index: Spill[IndexRow] = Spill(folder / "index")
        """What the next index will hold, by `partition_of`."""
        self.fresh: Spill[Fresh] = Spill(folder / "fresh")
        """Items for new shards, by `ordinal // ORDINALS_A_PART`, or by priority."""
        self.removed: Spill[tuple[int, Removed]] = Spill(folder / "removed")
        """Items no longer live, or `RETURNED`, with the number of their shard, by `shard // SHARDS_A_PART`."""
        self.edited: Spill[tuple[int, MetadataRow]] = Spill(folder / "edited")
        """Changed metadata of known items, likewise."""

    def take(self, listing: Iterable[SourceItem], metadata: Iterable[tuple[str, Metadata]]) -> None:
        """Sets the listing and its metadata aside."""
        for ordinal, item in enumerate(listing):
            self._incoming.add(partition_of(item.video_id), (ordinal, item))
        for video_id, values in metadata:
            self._titles.add(partition_of(video_id), (video_id, metadata_text(values)))

    def run(self, known: Iterator[tuple[int, list[IndexRow]]]) -> None:
        """Compares with the index, given part by part; fills `index`, `fresh`, `removed`, `edited` and `counts`."""
        part, rows = next(known, (PARTITIONS, []))
        for current in range(PARTITIONS):
            matching: list[IndexRow] = []
            if part == current:
                matching = rows
                part, rows = next(known, (PARTITIONS, []))
            self._join_part(current, {row.video_id: row for row in matching})

    def _join_part(self, part: int, known: dict[str, IndexRow]) -> None:
        titles: dict[str, str] = {}
        for video_id, text in self._titles.read(part):
            self.counts.metadata_unmatched += video_id in titles
            titles.setdefault(video_id, text)
        seen: set[str] = set()
        for ordinal, item in self._incoming.read(part):
            if item.video_id in seen:
                self._count_duplicate(item.video_id)
                continue
            seen.add(item.video_id)
            self._place(part, ordinal, item, known.get(item.video_id), titles.get(item.video_id))
        self.counts.metadata_unmatched += len(titles.keys() - seen)
        for row in known.values():
            if row.video_id not in seen:
                self._delete(part, row)

    def _count_duplicate(self, video_id: str) -> None:
        self.counts.duplicates += 1
        if len(self.counts.duplicate_ids) < _NAMED_DUPLICATES:
            self.counts.duplicate_ids.append(video_id)

    def _place(self, part: int, ordinal: int, item: SourceItem, row: IndexRow | None, given: str | None) -> None:
        kept = "" if row is None else row.metadata
        text = kept if given is None else given  # what a table does not name keeps what it has
        if row is not None and _same_content(item, row):
            if row.live:
                self.counts.unchanged += 1
            else:
                self.counts.returned += 1
                self._remove(row, RETURNED)
            if text != row.metadata:
                self.counts.metadata_changed += row.live
                self.edited.add(row.shard // SHARDS_A_PART, (row.shard, metadata_row(row.video_id, row.version, text)))
            self.index.add(part, replace(row, metadata=text, live=True))
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
            uri=item.uri,
            size_bytes=item.size_bytes,
            etag=item.etag,
            byte_offset=item.byte_offset,
        )
        place = ordinal // ORDINALS_A_PART if self._order_by is None else priority_part(text, self._order_by)
        self.fresh.add(place, Fresh(ordinal=ordinal, item=catalog_item, metadata=text))

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
        self.removed.add(row.shard // SHARDS_A_PART, (row.shard, removed))


def _same_content(item: SourceItem, row: IndexRow) -> bool:
    return (item.uri, item.size_bytes, item.etag, item.byte_offset) == (
        row.uri,
        row.size_bytes,
        row.etag,
        row.byte_offset,
    )


def metadata_row(video_id: str, version: int, text: str) -> MetadataRow:
    """A line of a shard's metadata file from what the index holds."""
    metadata = metadata_of(text)
    return MetadataRow(video_id=video_id, version=version, title=metadata.title, extra=metadata.extra)
