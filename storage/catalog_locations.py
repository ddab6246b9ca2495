"""Presigned URLs beside the catalog's shards: a file a shard, rewritten whole where a listing signed one anew."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from storage.catalog import Catalog, Location
from storage.catalog_join import Fresh, Join
from storage.catalog_paths import locations_path
from storage.prefetch import answers
from storage.shard_files import NONE
from storage.shard_ids import shard_name
from storage.tables import encode_records


class LocationWriter:
    """The `locations` files of the next revision."""

    def __init__(self, base: Catalog | None, join: Join, revision: int, attempt: int) -> None:
        self._base = base
        self._join = join
        self._revision = revision
        self._attempt = attempt
        self._known: npt.NDArray[np.int64] = (
            np.empty(0, dtype=np.int64) if base is None else base.files.locations.copy()
        )
        self._new: list[int] = []

    def new_shard(self, number: int, rows: Sequence[Fresh]) -> Iterator[tuple[str, bytes]]:
        """The file of a new shard, where an item of it has a presigned URL. Called once for each, in order."""
        located = [
            Location(video_id=row.item.video_id, version=row.item.version, uri=row.location)
            for row in rows
            if row.location
        ]
        self._new.append(self._revision if located else NONE)
        if located:
            yield locations_path(number, self._revision, self._attempt), encode_records(Location, located)

    def known_shards(self) -> Iterator[tuple[str, bytes]]:
        """A whole new file for each known shard with a URL that was signed anew."""
        for part in self._join.located.partitions():
            by_shard: defaultdict[int, dict[tuple[str, int], str]] = defaultdict(dict)
            for number, row in self._join.located.read(part):
                by_shard[number][row.video_id, row.version] = row.uri
            # Those to come are asked for meanwhile: a list that is signed anew each night changes every shard.
            for (number, signed), before in answers(sorted(by_shard.items()), self._before):
                uris = before | signed
                self._known[number] = self._revision
                rows = [Location(video_id=key[0], version=key[1], uri=uris[key]) for key in sorted(uris)]
                yield locations_path(number, self._revision, self._attempt), encode_records(Location, rows)

    def _before(self, change: tuple[int, object]) -> dict[tuple[str, int], str]:
        assert self._base is not None, "only known items are signed anew"
        return self._base.locations(shard_name(change[0]))

    def revisions(self) -> npt.NDArray[np.int64]:
        """(S,) revision of each shard's file now, or NONE."""
        return np.concatenate([self._known, np.asarray(self._new, dtype=np.int64)])
