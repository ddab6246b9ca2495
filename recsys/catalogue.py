"""The items that are ranked, in the order of their ids: all of them, also those that nobody watched."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from records.errors import UserError

MAX_NAMED = 3
"""Ids that a message names as examples."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """Item ids in order. An item's index is its place here, so that a smaller index is a smaller id."""

    item_ids: Sequence[str]

    @classmethod
    def of(cls, item_ids: Iterable[str], source: str) -> "Catalogue":
        """Sorts ids: by number where all are decimal numbers, else as text.

        Args:
            source: Where the ids come from, for the message.

        Raises:
            UserError: There is none, or one comes twice.
        """
        ids = list(item_ids)
        if not ids:
            raise UserError(f"{source} names no item")
        if all(one.isascii() and one.isdigit() for one in ids):
            ids.sort(key=lambda one: (int(one), one))
        else:
            ids.sort()
        twice = sorted({first for first, second in itertools.pairwise(ids) if first == second})
        if twice:
            raise UserError(f"{source} names {len(twice)} items twice, such as {', '.join(twice[:MAX_NAMED])}")
        return cls(item_ids=tuple(ids))

    def __len__(self) -> int:
        return len(self.item_ids)

    def indices(self, ids: Sequence[str]) -> npt.NDArray[np.int32]:
        """(len(ids),) the index of each id, -1 where it is unknown."""
        found = pc.index_in(pa.array(ids, pa.string()), value_set=pa.array(self.item_ids, pa.string()))
        return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
