"""A catalog of any size on the local disk, in the time that hard links take."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.plan import NONE
from records.items import CatalogItem
from storage.catalog import Revision, encode_revision
from storage.catalog_paths import revision_path, shard_files_path, shard_path
from storage.shard_files import ShardFiles
from storage.stores import Store
from storage.tables import encode_records

LINKS_A_FILE = 50_000
"""A file system lets a file have so many names, and some more."""


def link_all(folder: Path, first: Path, names: list[str]) -> None:
    """Gives one file many names."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(names), LINKS_A_FILE):
        source = first.with_name(f"{first.name}.{start}")
        shutil.copyfile(first, source)
        for name in names[start : start + LINKS_A_FILE]:
            os.link(source, folder / name)
        source.unlink()


def make_catalog(folder: Path, groups: Sequence[tuple[int, int]]) -> list[CatalogItem]:
    """Writes a catalog and returns the items of its last shard.

    Args:
        folder: The output.
        groups: Of shards that hold the same items: how many, and their items.
    """
    (folder / "made").mkdir(parents=True)
    items: list[CatalogItem] = []
    first = 0
    for shards, of_each in groups:
        items = [
            CatalogItem(video_id=f"{n:06d}", version=1, uri=f"s3://clips/{n}.mp4", size_bytes=4_000_000, etag="0" * 32)
            for n in range(of_each)
        ]
        made = folder / "made" / f"{of_each}"
        made.write_bytes(encode_records(CatalogItem, items))
        names = [Path(shard_path(number)).name for number in range(first, first + shards)]
        link_all(folder / "catalog" / "shards", made, names)
        first += shards
    commit_catalog(Store.open(str(folder)), groups)
    return items


def commit_catalog(store: Store, groups: Sequence[tuple[int, int]]) -> None:
    """Writes the revision and its table of shards."""
    counts = np.concatenate([np.full(shards, items, dtype=np.int64) for shards, items in groups])
    none = np.full(len(counts), NONE, dtype=np.int64)
    files = ShardFiles(removed=none, metadata=none, titles=none, locations=none, returned=none, items=counts)
    total = int(counts.sum())
    revision = Revision(
        revision=1, source="s3://clips", shard_size=int(counts.max()), shard_count=len(counts),
        item_count=total, new=total, changed=0, deleted=0, unchanged=0, metadata_changed=0,
    )  # fmt: skip
    store.create(shard_files_path(1), files.encode())
    store.create(revision_path(1), encode_revision(revision))
