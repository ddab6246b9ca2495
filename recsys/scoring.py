"""A trained model's lists for all users."""

import torch
from torch import Tensor

from recsys.interactions import Ints
from recsys.model import Recommender
from recsys.protocol import Part, Split
from recsys.ranking import batches, recommend

CPU_BATCH_USERS = 64
GPU_BATCH_SCORES = 2**28
"""Scores that exist at once on a GPU."""


class ScoreBuffer:
    """Scores of queries against items, in memory that is used again: fresh pages cost as much as the product."""

    def __init__(self, items: Tensor) -> None:
        """Holds (N, D) float32 items."""
        self._items = items
        gpu = items.device.type != "cpu"
        self.batch_users = max(1, GPU_BATCH_SCORES // len(items)) if gpu else CPU_BATCH_USERS
        self._scores = torch.empty(self.batch_users, len(items), device=items.device)

    def __call__(self, queries: Tensor) -> Tensor:
        """(B, N) scores of (B, D) float32 queries, valid until the next call; B at most `batch_users`."""
        return torch.mm(queries, self._items.T, out=self._scores[: len(queries)])


@torch.no_grad()
def model_lists(model: Recommender, split: Split, part: Part, k: int) -> Ints:
    """(U, k) each user's best items, without those of the whole kept history."""
    device = next(model.parameters()).device
    model.eval()
    table, wanted = model.item_vectors()
    inputs, lengths = split.histories(part, model.config.max_length)
    seen, _ = split.histories(part)
    buffer = ScoreBuffer(wanted)

    queries: list[Tensor] = []
    for users in batches(split.user_count, 4 * buffer.batch_users):
        histories = torch.from_numpy(inputs[users]).to(device, torch.int64)
        queries.append(model.queries(table, histories, torch.from_numpy(lengths[users]).to(device, torch.int64)))
    all_queries = torch.cat(queries)
    return recommend(lambda users: buffer(all_queries[users]), seen, k, buffer.batch_users)
