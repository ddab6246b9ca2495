"""The lines of a new stage file: what was made now, and what the file before it said of the others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from records.errors import Failure
from records.items import CatalogItem
from records.outcomes import Outcome
from records.schemas import StageRow

Key = tuple[str, int]
"""Id and version of an item."""


def merged_rows(
    items: Sequence[CatalogItem],
    stored: Mapping[Key, StageRow],
    made: Mapping[Key, Outcome | Failure | None],
    generation: int,
) -> list[StageRow]:
    """One line an item, in their order; none for an item of which nobody knows anything.

    Args:
        items: The shard's live items.
        stored: Lines of the file before, which keep their generation.
        made: What this run has made; a failure adds to the attempts of the one before it.
        generation: Of the new lines.
    """
    rows: list[StageRow] = []
    for item in items:
        old, new = stored.get(item.key), made.get(item.key)
        if new is not None:
            outcome = _with_earlier_attempts(new, old)
            rows.append(StageRow(video_id=item.video_id, version=item.version, generation=generation, outcome=outcome))
        elif old is not None:
            rows.append(old)
    return rows


def _with_earlier_attempts(new: Outcome | Failure, old: StageRow | None) -> Outcome | Failure:
    if isinstance(new, Failure) and old is not None and isinstance(old.outcome, Failure):
        return replace(new, attempts=new.attempts + old.outcome.attempts)
    return new
