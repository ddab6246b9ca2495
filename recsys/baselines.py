"""The floor: what needs no training. Popularity, and the neighbours of the history by content."""

import numpy as np
import numpy.typing as npt
import torch

from recsys.interactions import Ints
from recsys.protocol import Part, Split
from recsys.ranking import recommend
from recsys.scoring import CPU_BATCH_USERS, ScoreBuffer


def popularity_lists(split: Split, part: Part, k: int) -> Ints:
    """(U, k) the items with most training events, without those of the history; ties go to the smaller item id."""
    counts = torch.from_numpy(split.training_counts()).float()
    seen, _ = split.histories(part)
    return recommend(lambda users: counts.repeat(users.stop - users.start, 1), seen, k, CPU_BATCH_USERS)


def content_lists(
    split: Split,
    features: npt.NDArray[np.float32],
    part: Part,
    k: int,
    *,
    max_length: int,
    device: torch.device,
) -> Ints:
    """(U, k) the items whose features are nearest to the history's, without those of the history.

    The history is the mean of its items' features at unit length, and nearness the cosine. An item without features is
    as near as nothing.

    Args:
        split: The users.
        features: (N, F) centred and scaled, zeros where an item has none.
        part: What is to be found.
        k: Length of the lists.
        max_length: Items of the history that count, the newest.
        device: Where to compute.
    """
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = np.divide(features, norms, out=np.zeros_like(features), where=norms > 0)
    recent, _ = split.histories(part, max_length)
    seen, _ = split.histories(part)
    # A line of zeros for the padding: the sum over a history needs no mask, and its length does not turn the vector.
    padded = torch.from_numpy(np.concatenate([unit, np.zeros_like(unit[:1])])).to(device)
    buffer = ScoreBuffer(padded[:-1])

    def score(users: slice) -> torch.Tensor:
        histories = torch.from_numpy(recent[users].astype(np.int64)).to(device)
        return buffer(torch.nn.functional.embedding_bag(histories, padded, mode="sum"))

    return recommend(score, seen, k, buffer.batch_users)
