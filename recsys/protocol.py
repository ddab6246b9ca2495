"""MicroLens's protocol: each user's last 13 items; the last is the test, the one before the validation.

Leave-one-out as in arXiv 2309.15379, whose code keeps `max_seq_len + 3` = 13 items of a user. The rest of the 13 is
the training part. All items of the catalogue are ranked, with the items of the user's history left out.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from records.errors import UserError
from recsys.catalogue import MAX_NAMED, Catalogue
from recsys.interactions import Interactions, Ints

Part = Literal["validation", "test"]

MIN_EVENTS = 3
"""A user needs a history, a validation and a test item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolConfig:
    """How interactions are split.

    Raises:
        ValueError: A number is out of its range.
    """

    last_items: int = 13
    """Items kept of each user, the newest."""
    max_unknown_share: float = 0.5
    """More events than this on items that the catalogue lacks, and the ids cannot be meant to match."""

    def __post_init__(self) -> None:
        if self.last_items < MIN_EVENTS:
            raise ValueError(f"protocol: last_items must be at least {MIN_EVENTS}")
        if not 0 <= self.max_unknown_share < 1:
            raise ValueError("protocol: max_unknown_share lies between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusions:
    """What of the interactions was left out, and why: shown beside every result."""

    events: int
    """Events read."""
    unknown_events: int
    """On an item that the catalogue lacks."""
    unknown_items: int
    """How many such items."""
    repeated_events: int
    """A user's second and later event on one item: the first counts, since an item watched is no longer ranked."""
    older_events: int
    """Before a user's last items."""
    short_users: int
    """Users with fewer than three items left, who are neither trained on nor tested."""
    short_user_events: int
    """Their events."""
    kept_events: int
    kept_users: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Users' kept items, one after the other."""

    item_count: int
    """N, the size of the catalogue."""
    offsets: npt.NDArray[np.int64]
    """(U + 1,) where each user's items start."""
    items: Ints
    """(E,) index into the catalogue, oldest first; no item twice for one user."""

    @property
    def user_count(self) -> int:
        """U."""
        return len(self.offsets) - 1

    def targets(self, part: Part) -> Ints:
        """(U,) the item that is to be found for each user."""
        return self.items[self.offsets[1:] - (1 if part == "test" else 2)]

    def histories(self, part: Part, last: int | None = None) -> tuple[Ints, Ints]:
        """What comes before the target, oldest first.

        Args:
            last: Keep only so many, the newest.

        Returns:
            (U, L) items, `item_count` behind a shorter history's end, and (U,) lengths, all above 0.
        """
        ends = self.offsets[1:] - (1 if part == "test" else 2)
        return self._padded(self.offsets[:-1] if last is None else np.maximum(self.offsets[:-1], ends - last), ends)

    def training_sequences(self, last: int | None = None) -> tuple[Ints, Ints]:
        """Training parts, padded as in `histories`; with `last`, only the newest so many items."""
        ends = self.offsets[1:] - 2
        return self._padded(self.offsets[:-1] if last is None else np.maximum(self.offsets[:-1], ends - last), ends)

    def training_counts(self) -> npt.NDArray[np.int64]:
        """(N,) how often each item occurs in the training parts."""
        items, lengths = self.training_sequences()
        real = np.arange(items.shape[1]) < lengths[:, None]
        return np.bincount(items[real], minlength=self.item_count)

    def _padded(self, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> tuple[Ints, Ints]:
        lengths = (ends - starts).astype(np.int32)
        steps = np.arange(int(lengths.max(initial=1)))
        places = np.minimum(starts[:, None] + steps, len(self.items) - 1)
        return np.where(steps < lengths[:, None], self.items[places], np.int32(self.item_count)), lengths


def split_interactions(
    interactions: Interactions, catalogue: Catalogue, config: ProtocolConfig
) -> tuple[Split, Exclusions]:
    """Splits, and counts what is left out.

    Raises:
        UserError: Most events are on items that the catalogue lacks, or no user has three items.
    """
    names = catalogue.indices(interactions.item_ids)
    items, users = names[interactions.items], interactions.users
    known = items >= 0
    unknown = [interactions.item_ids[place] for place in np.flatnonzero(names < 0)]
    unknown_share = 1 - known.sum() / len(items)
    if unknown_share > config.max_unknown_share:
        raise UserError(
            f"the items of the interactions are not those of the catalogue: {unknown_share:.0%} of {len(items)} events "
            f"are on {len(unknown)} unknown items, such as {', '.join(unknown[:MAX_NAMED])}; the catalogue has "
            f"{', '.join(catalogue.item_ids[:MAX_NAMED])}"
        )
    first = _first_events(users[known], items[known], len(catalogue))
    users_kept, items_kept = users[known][first], items[known][first]
    recent = _from_the_end(users_kept) <= config.last_items
    users_recent, items_recent = users_kept[recent], items_kept[recent]
    counts = np.bincount(users_recent, minlength=len(interactions.user_ids))
    enough = counts[users_recent] >= MIN_EVENTS
    kept = counts[counts >= MIN_EVENTS]
    if not len(kept):
        raise UserError(f"no user has {MIN_EVENTS} different items: nothing to train on and to test")
    split = Split(
        item_count=len(catalogue),
        offsets=np.concatenate([[0], np.cumsum(kept)]).astype(np.int64),
        items=items_recent[enough],
    )
    return split, Exclusions(
        events=len(items),
        unknown_events=int((~known).sum()),
        unknown_items=len(unknown),
        repeated_events=int((~first).sum()),
        older_events=int((~recent).sum()),
        short_users=len(interactions.user_ids) - len(kept),
        short_user_events=int((~enough).sum()),
        kept_events=int(enough.sum()),
        kept_users=len(kept),
    )


def _first_events(users: Ints, items: Ints, item_count: int) -> npt.NDArray[np.bool_]:
    """(E,) whether the event is its user's first on its item."""
    _, places = np.unique(users.astype(np.int64) * item_count + items, return_index=True)
    first = np.zeros(len(users), dtype=bool)
    first[places] = True
    return first


def _from_the_end(users: Ints) -> npt.NDArray[np.int64]:
    """(E,) 1 for each user's last event, 2 for the one before; `users` never falls."""
    ends = np.searchsorted(users, users, side="right")
    return ends - np.arange(len(users))
