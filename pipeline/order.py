"""Which shards go first: what `--order` says, as one number a shard."""

import numpy as np
import numpy.typing as npt

from storage.catalog import Catalog

ORDERS = ("oldest", "newest", "largest")
COLUMN = "column:"


def column_of(order: str) -> str | None:
    """The metadata column that an order names, or None: `views` and `column:views` do, `newest` does not."""
    if order.startswith(COLUMN):
        return order.removeprefix(COLUMN)
    return None if order in ORDERS else order


def shard_priority(catalog: Catalog, order: str) -> npt.NDArray[np.float64]:
    """(S,) one number a shard, the highest to run first; nothing but the catalog's own table of shards is read.

    Args:
        catalog: The catalog.
        order: `oldest` (first listed first), `newest`, `largest` (most live items first), or a numeric metadata column:
            shards by its mean over their items.

    Raises:
        UserError: No item has a number in that column.
    """
    column = column_of(order)
    if column is not None:
        return catalog.files.mean_of(column)
    if order == "largest":
        return catalog.live_counts().astype(np.float64)
    number = np.arange(catalog.shard_count, dtype=np.float64)
    return number if order == "newest" else -number
