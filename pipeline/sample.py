"""The items that a probe runs: drawn from all that is pending, spread over the shards, the same again for a seed."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.plan import Plan, ShardTask
from records.flow import FlowRow


def sample_positions(live: npt.NDArray[np.int64], count: int, seed: int) -> list[tuple[int, int]]:
    """Places of a sample: the items are cut into `count` equal stretches, and one of each is drawn.

    Args:
        live: (S,) items of each shard.
        count: Items wanted; all of them where there are not so many.
        seed: Of the draw.

    Returns:
        Pairs of a shard's place in `live` and an item's place in the shard, in order, none twice.
    """
    behind = np.cumsum(live)
    total = int(behind[-1]) if len(live) else 0
    count = min(count, total)
    edges = np.arange(count + 1, dtype=np.int64) * total // max(count, 1)
    chosen = np.random.default_rng(seed).integers(edges[:-1], edges[1:]) if count else np.empty(0, dtype=np.int64)
    shards = np.searchsorted(behind, chosen, side="right")
    return [(int(shard), int(item - (behind[shard] - live[shard]))) for shard, item in zip(shards, chosen, strict=True)]


def sample_lines(
    plan: Plan, live: npt.NDArray[np.int64], read: Callable[[ShardTask], Sequence[FlowRow]], count: int, seed: int
) -> list[FlowRow]:
    """Lines of pending items, with what their stages read.

    Args:
        plan: What is pending.
        live: (S,) live items of every shard of the catalog.
        read: Gives the pending lines of a shard.
        count: Lines wanted; fewer where an older listing counted more items in a shard than have work.
        seed: Of the draw.
    """
    places: dict[int, list[int]] = {}
    for place, offset in sample_positions(live[plan.order], count, seed):
        places.setdefault(int(plan.order[place]), []).append(offset)
    lines: list[FlowRow] = []
    for shard, offsets in places.items():
        pending = read(plan.task(shard))
        if pending:
            lines += [pending[offset] for offset in sorted({offset % len(pending) for offset in offsets})]
    return lines
