"""A catalog as a dictionary, and what brings the real one to the same history."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from records.items import CatalogItem, Metadata
from storage.catalog import Catalog, Revision
from storage.catalog_change import CatalogChange
from storage.catalog_paths import revision_path
from storage.catalog_refresh import refresh
from storage.shard_files import NONE
from storage.shard_ids import shard_name
from storage.sources import SourceItem
from storage.stores import Store

IDS = ["a", "b", "c/d", "ä", "0", "00", "x" * 40, "e", "f", "g", "h", "i"]

contents = st.tuples(st.integers(0, 3), st.sampled_from(["e1", "e2"]))
listings = st.lists(st.tuples(st.sampled_from(IDS), contents), max_size=20)
titles = st.none() | st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(["", "t1", "t2"])), max_size=12)
histories = st.lists(st.tuples(listings, titles), min_size=1, max_size=5)


def source_item(video_id: str, content: tuple[int, str]) -> SourceItem:
    return SourceItem(video_id=video_id, uri=f"mem/{video_id}.mp4", size_bytes=content[0], etag=content[1])


@dataclass
class Model:
    """The catalog as a dictionary."""

    live: dict[str, tuple[int, tuple[int, str]]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    newest: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Content of the newest version, live or not."""
    metadata: dict[str, str] = field(default_factory=dict)
    order: list[tuple[str, int]] = field(default_factory=list)

    def apply(self, listing: list[tuple[str, tuple[int, str]]], table: list[tuple[str, str]] | None) -> None:
        first: dict[str, tuple[int, str]] = {}
        for video_id, content in listing:
            first.setdefault(video_id, content)
        for video_id in self.live.keys() - first.keys():
            del self.live[video_id]
        for video_id, content in first.items():
            if video_id not in self.live and self.newest.get(video_id) == content:
                self.live[video_id] = (self.versions[video_id], content)
            elif video_id not in self.live or self.live[video_id][1] != content:
                self.versions[video_id] = self.versions.get(video_id, 0) + 1
                self.live[video_id] = (self.versions[video_id], content)
                self.newest[video_id] = content
                self.order.append((video_id, self.versions[video_id]))
        if table is not None:
            given: dict[str, str] = {}
            for video_id, title in table:
                given.setdefault(video_id, title)
            self.metadata |= {video_id: title for video_id, title in given.items() if video_id in self.live}

    @property
    def titles(self) -> dict[str, str]:
        """The titles of live items that have one."""
        return {video_id: self.metadata[video_id] for video_id in self.live if self.metadata.get(video_id)}


def live_of(catalog: Catalog) -> dict[str, CatalogItem]:
    found = {}
    for shard_id in catalog.shard_ids():
        removed = catalog.removed(shard_id)
        for item in catalog.read_shard(shard_id):
            if item.key not in removed:
                assert item.video_id not in found
                found[item.video_id] = item
    return found


def metadata_generations(catalog: Catalog) -> Iterator[tuple[str, int]]:
    """Shard and its newest generation, in order, for each shard that has metadata."""
    for number in np.flatnonzero(catalog.files.metadata != NONE):
        yield shard_name(int(number)), int(catalog.files.metadata[number])


def revision_of(store: Store) -> Revision:
    """What the newest listing said of itself."""
    return Revision(**json.loads(store.read_bytes(revision_path(opened(store).revision))))


def titles_of(catalog: Catalog) -> dict[str, str]:
    """The titles of live items that have one; a title that was taken away leaves an empty line."""
    live = {item.key for item in live_of(catalog).values()}
    return {
        video_id: metadata.title
        for shard_id, generation in metadata_generations(catalog)
        for (video_id, version), metadata in catalog.read_metadata(shard_id, generation).items()
        if (video_id, version) in live and metadata.title
    }


def run(
    store: Store, listing: list[tuple[str, tuple[int, str]]], table: list[tuple[str, str]] | None, shard_size: int = 3
) -> CatalogChange:
    return refresh(
        store,
        (source_item(video_id, content) for video_id, content in listing),
        None if table is None else ((video_id, Metadata(title=title)) for video_id, title in table),
        "mem",
        shard_size,
        lambda shard_id: 0,
    )


def opened(store: Store) -> Catalog:
    catalog = Catalog.open(store)
    assert catalog is not None
    return catalog


def contents_of(store: Store) -> dict[str, bytes]:
    return {entry.path: store.read_bytes(entry.path) for entry in store.list()}
