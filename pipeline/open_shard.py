"""What the driver keeps of a shard that is not committed yet.

One straggling row may keep a shard open for hours, and thousands of shards may be: so a row that a journal holds costs
one bit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.plan import ShardTask
from records.errors import Failure
from records.outcomes import Outcome
from records.schemas import JournalRow

Key = tuple[str, int]
Outcomes = Mapping[str, Outcome | Failure]


@dataclass(slots=True)
class OpenShard:
    """What has arrived of one shard. Rows are known by their position in the shard."""

    task: ShardTask
    rows: dict[int, tuple[Key, Outcomes]] = field(default_factory=dict)
    """Position to item and outcomes, while they are in memory."""
    journalled: int = 0
    """Bit n is set where a journal holds the row at position n."""
    before_pass: int = 0
    """Rows that were there before this pass and are not issued in it."""
    expected: int | None = None
    failed: bool = False
    commit_after_rows: int = 0

    @property
    def arrived(self) -> int:
        """How many rows are there."""
        return len(self.rows) + self.journalled.bit_count()

    @property
    def complete(self) -> bool:
        """Whether all rows are there."""
        return self.expected is not None and self.arrived >= self.expected

    def has(self, position: int) -> bool:
        """Whether the row at a position is there."""
        return position in self.rows or bool(self.journalled >> position & 1)

    def positions(self) -> int:
        """Bit n is set where the row at position n is there."""
        return self.journalled | positions_mask(self.rows)

    def saved(self, positions: Iterable[int]) -> None:
        """A journal holds these rows now."""
        taken = positions_mask(positions)
        self.journalled |= taken
        # A new dictionary: one that is emptied keeps the room that it had.
        self.rows = {position: row for position, row in self.rows.items() if not taken >> position & 1}

    def outcomes(self, journal: Iterable[JournalRow]) -> dict[Key, Outcomes]:
        """Item to what was made of it, for every row that is there.

        Args:
            journal: The shard's journalled rows, oldest first; read only where some row is not in memory.
        """
        found = dict(self.rows.values())
        left = self.journalled
        for row in journal if left else ():
            if row.position is not None and left >> row.position & 1:
                left ^= 1 << row.position
                found[row.key] = row.outcomes
        assert not left, f"shard {self.task.shard_id}: the journal lost {left.bit_count()} rows"
        return found


def positions_mask(positions: Iterable[int]) -> int:
    """The positions as one integer: bit n for position n."""
    mask = 0
    for position in positions:
        mask |= 1 << position
    return mask
