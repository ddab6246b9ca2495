"""What a listing changed in the catalog, for whoever asked for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from storage.catalog_join import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogChange:
    """What a listing changed."""

    revision: int
    """The revision that holds now; the old one where nothing changed."""
    new: int
    changed: int
    """Same id, other content: a new version in a new shard."""
    deleted: int
    unchanged: int
    returned: int
    """Deleted before and back with the same content: live again under their old version, with what was made of it."""
    metadata_changed: int
    """Items known before whose title or further columns differ."""
    relocated: int = 0
    """Unchanged items whose URL was signed anew."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What of the source became no item: reason to count."""
    left_out_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Reason to the first few of them."""
    metadata_unmatched: int = 0
    """Lines of the metadata table without an item."""
    metadata_repeated: int = 0
    """Lines of it with an id seen before, which do not count."""

    @classmethod
    def of(cls, revision: int, counts: Counts) -> "CatalogChange":
        """The change that a finished comparison counted."""
        return cls(
            revision=revision,
            new=counts.new,
            changed=counts.changed,
            deleted=counts.deleted,
            unchanged=counts.unchanged,
            metadata_changed=counts.metadata_changed,
            relocated=counts.relocated,
            left_out=dict(sorted(counts.left_out.items())),
            left_out_names={reason: tuple(names) for reason, names in counts.left_out_names.items()},
            returned=counts.returned,
            metadata_unmatched=counts.metadata_unmatched,
            metadata_repeated=counts.metadata_repeated,
        )
