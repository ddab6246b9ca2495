"""The best items of each user out of the whole catalogue, exactly, with ties going to the smaller item id.

Shapes: B users of a batch, N items, D dimensions, L items of a history, K places of a list.

Order: a higher score comes first; of equal scores the smaller index, which is the smaller item id. The same scores
give the same list, whatever the batch and the way to find it.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from recsys.interactions import Ints

BLOCK_ITEMS = 16
"""Items of which only the best is looked at first."""


def top_items(scores: Tensor, k: int) -> Tensor:
    """The `k` best columns of each row, best first.

    Args:
        scores: (B, N) float32; -inf for what must not come.
        k: At most N.

    Returns:
        (B, k) int64.

    Raises:
        ValueError: A score is NaN: the model diverged.
    """
    wanted = min(k + 1, scores.shape[1])
    values, columns = _candidates(scores, wanted)
    if bool(values.isnan().any()):  # NaN counts as the highest, so that it is among the candidates
        raise ValueError("a score is NaN: the model diverged")
    columns, order = torch.sort(columns, dim=1)
    values, order = torch.sort(values.gather(1, order), dim=1, descending=True, stable=True)
    best = columns.gather(1, order)[:, :k]
    if wanted > k:
        # Which of equal scores topk takes is left open: where they straddle the end of the list, look again.
        for row in (values[:, k - 1] == values[:, k]).nonzero().flatten().tolist():
            best[row] = _top_of_row(scores[row], values[row, k - 1], k)
    return best


def _candidates(scores: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """(B, wanted) highest values of each row and their columns, in no certain order.

    The highest values lie in the blocks with the highest maxima, and in the rest that fills no block. One pass over the
    scores, where a `topk` over whole rows takes several times as long.
    """
    blocks = scores.shape[1] // BLOCK_ITEMS
    if blocks <= 2 * wanted:
        values, columns = scores.topk(wanted, dim=1, sorted=False)
        return values, columns
    whole = blocks * BLOCK_ITEMS
    # Column c is in block c % blocks, so that the maximum runs along memory.
    maxima = scores[:, :whole].view(-1, BLOCK_ITEMS, blocks).amax(dim=1)
    best_blocks = maxima.topk(wanted, dim=1, sorted=False).indices
    steps = torch.arange(BLOCK_ITEMS, device=scores.device) * blocks
    columns = (best_blocks[:, :, None] + steps).flatten(1)
    rest = torch.arange(whole, scores.shape[1], device=scores.device).expand(len(scores), -1)
    columns = torch.cat([columns, rest], dim=1)
    values, places = scores.gather(1, columns).topk(wanted, dim=1, sorted=False)
    return values, columns.gather(1, places)


def _top_of_row(row: Tensor, threshold: Tensor, k: int) -> Tensor:
    columns = (row >= threshold).nonzero().flatten()
    order = torch.sort(row[columns], descending=True, stable=True).indices
    return columns[order[:k]]


def ranks_in(lists: Ints, targets: Ints) -> Ints:
    """(B,) the place of each target in its list, from 0; K where it is not in it."""
    found = lists == targets[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), lists.shape[1]).astype(np.int32)


Scorer = Callable[[slice], Tensor]
"""Users (a slice of the histories) to their (B, N) float32 scores, which the caller may overwrite."""


def recommend(scorer: Scorer, histories: Ints, k: int, batch_users: int) -> Ints:
    """Ranks the whole catalogue for each user, the items of the history left out.

    Args:
        scorer: Scores of a batch of users.
        histories: (U, L) items that must not come, N where there is none.
        k: Length of the lists.
        batch_users: Users scored at once.

    Returns:
        (U, k) int32.

    Raises:
        ValueError: A score is NaN, or the catalogue is too small for such lists.
    """
    lists = np.empty((len(histories), k), dtype=np.int32)
    for users in batches(len(histories), batch_users):
        scores = scorer(users)
        seen = torch.from_numpy(histories[users].astype(np.int64)).to(scores.device)
        if k + seen.shape[1] > scores.shape[1]:
            raise ValueError(f"{scores.shape[1]} items are too few for lists of {k} beside a history")
        # The padding points behind the last item: it leaves out the history's first item once more.
        seen = torch.where(seen < scores.shape[1], seen, seen[:, :1])
        scores.scatter_(1, seen, -torch.inf)
        best = top_items(scores, k)
        lists[users] = best.cpu().numpy()
    return lists


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `count`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
