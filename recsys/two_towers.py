"""Two-Towers: a vector for the user, a vector for the item, and their inner product (DSSM, Huang et al. 2013).

Shapes: B users, L places, T = all real places of the batch, M items, D dimensions.

The user is the history: a mean of its items' vectors, weighted by how long ago each was watched (the weights are
learned), through a small network. Every prefix of a training sequence is a user, and all of them are made at once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.items import INITIAL_STD
from recsys.sasrec import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoTowersConfig:
    """The architecture.

    Raises:
        ValueError: A number is out of its range.
    """

    inner_dim: int = 256
    """Width of each tower's hidden layer."""
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.inner_dim < 1 or not 0 <= self.dropout < 1:
            raise ValueError("two_towers: inner_dim must be at least 1, dropout between 0 and 1")


class TwoTowers(nn.Module):
    """Both towers, above the item vectors that they share."""

    def __init__(self, config: TwoTowersConfig, *, dim: int, max_length: int) -> None:
        """Builds both towers; D is `dim`, L at most `max_length`."""
        super().__init__()
        self.age_weights = nn.Parameter(torch.zeros(max_length))
        self.user_tower = _Tower(config, dim)
        self.item_tower = _Tower(config, dim)

    def forward(self, items: Tensor, histories: Tensor, lengths: Tensor, *, last_only: bool) -> Tensor:
        """The user's vector after each place of the history; shapes as in `SasRec.forward`."""
        places = Places(histories.shape[1], lengths)
        padded = places.padded(F.embedding(places.packed(histories), items))
        means = places.packed(self._weights(histories.shape[1]).to(padded.dtype) @ padded)
        users: Tensor = self.user_tower(means[places.last] if last_only else means)
        return users

    def targets(self, items: Tensor) -> Tensor:
        """(M, D) through the items' tower."""
        vectors: Tensor = self.item_tower(items)
        return vectors

    def _weights(self, length: int) -> Tensor:
        """(L, L) row t holds the weights of places 0 to t, which sum to 1."""
        steps = torch.arange(length, device=self.age_weights.device)
        ages = steps[:, None] - steps
        weights = self.age_weights[ages.clamp_min(0)].masked_fill(ages < 0, -torch.inf)
        return weights.softmax(dim=1)


class _Tower(nn.Module):
    """A residual network of one hidden layer: at the start nearly the identity."""

    def __init__(self, config: TwoTowersConfig, dim: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.wide = nn.Linear(dim, config.inner_dim)
        self.narrow = nn.Linear(config.inner_dim, dim)
        for layer in (self.wide, self.narrow):
            nn.init.normal_(layer.weight, std=INITIAL_STD)
            nn.init.zeros_(layer.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        hidden: Tensor = self.narrow(self.dropout(torch.relu(self.wide(vectors))))
        return vectors + hidden
