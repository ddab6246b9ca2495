"""A recommender: items as vectors, one of the two models above them, and how it is scored and trained.

Shapes: B users, L places, T = all real places of the batch, N items, D dimensions.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.items import ItemEncoder
from recsys.sasrec import SasRec, SasRecConfig
from recsys.softmax import Loss, full_softmax_loss, in_batch_loss
from recsys.two_towers import TwoTowers, TwoTowersConfig

ModelName = Literal["two_towers", "sasrec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One model.

    Raises:
        ValueError: A number is out of its range.
    """

    name: ModelName
    dim: int = 64
    """Dimensions of item and user vectors."""
    max_length: int = 10
    """Items of a history that the model looks at, the newest."""
    loss: Loss = "full"
    """`full` ranks against the whole catalogue, `in_batch` against the batch, with the popularity correction."""
    temperature: float | None = None
    """Scores are cosines divided by it; None for inner products."""
    sasrec: SasRecConfig = field(default_factory=SasRecConfig)
    two_towers: TwoTowersConfig = field(default_factory=TwoTowersConfig)

    def __post_init__(self) -> None:
        if self.name not in ("two_towers", "sasrec"):
            raise ValueError(f"model: name is two_towers or sasrec, not {self.name!r}")
        if self.loss not in ("full", "in_batch"):
            raise ValueError(f"model: loss is full or in_batch, not {self.loss!r}")
        if self.dim < 1 or self.max_length < 1:
            raise ValueError("model: dim and max_length must be at least 1")
        if self.temperature is not None and self.temperature <= 0:
            raise ValueError("model: temperature must be above 0")
        if self.name == "sasrec" and self.dim % self.sasrec.heads:
            raise ValueError(f"model: dim must be a multiple of {self.sasrec.heads} heads, unlike {self.dim}")


class Recommender(nn.Module):
    """Scores the catalogue for a history."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        item_count: int,
        use_ids: bool,
        features: npt.NDArray[np.float32] | None,
    ) -> None:
        """Builds the model; see `ItemEncoder` for the items' side."""
        super().__init__()
        self.config = config
        self.item_count = item_count
        self.items = ItemEncoder(item_count=item_count, dim=config.dim, use_ids=use_ids, features=features)
        self.users: SasRec | TwoTowers = (
            SasRec(config.sasrec, dim=config.dim, max_length=config.max_length)
            if config.name == "sasrec"
            else TwoTowers(config.two_towers, dim=config.dim, max_length=config.max_length)
        )

    def loss(
        self,
        histories: Tensor,
        lengths: Tensor,
        targets: Tensor,
        shares: Tensor,
        log_popularity: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """The mean loss over all positions of a batch.

        Args:
            histories: (B, L) int64 items, anything behind a history's end.
            lengths: (B,) int64.
            targets: (T, W) int64 the items after each real place, the next first.
            shares: (T, W) how much of what a place is to predict each of them is.
            log_popularity: (N,) log share of the training events of each item.
            dtype: Of the scores of the full softmax.
        """
        if self.config.loss == "full":
            table = self.items()
            queries = self.users(table, histories, lengths, last_only=False)
            wanted = self.users.targets(table)
            return full_softmax_loss(*self._matched(queries, wanted), targets, shares, dtype)
        # Only the items of the batch are made into vectors: whatever the size of the catalogue.
        chosen, of_target = torch.unique(targets, return_inverse=True)
        real = torch.arange(histories.shape[1], device=histories.device) < lengths[:, None]
        watched, of_history = torch.unique(torch.where(real, histories, histories[:, :1]), return_inverse=True)
        queries = self.users(self.items(watched), of_history, lengths, last_only=False)
        wanted = self.users.targets(self.items(chosen))
        return in_batch_loss(*self._matched(queries, wanted), of_target, shares, log_popularity[chosen])

    @torch.no_grad()
    def item_vectors(self) -> tuple[Tensor, Tensor]:
        """(N, D) the table that histories read, and (N, D) float32 what queries are matched with."""
        table = self.items()
        return table, self._matched(table[:1], self.users.targets(table))[1]

    @torch.no_grad()
    def queries(self, table: Tensor, histories: Tensor, lengths: Tensor) -> Tensor:
        """(B, D) float32 what each user looks for next."""
        queries = self.users(table, histories, lengths, last_only=True)
        return self._matched(queries, table[:1])[0]

    def _matched(self, queries: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and items so that their inner product is the score."""
        queries, items = queries.float(), items.float()
        if self.config.temperature is None:
            return queries, items
        return F.normalize(queries, dim=1) / self.config.temperature, F.normalize(items, dim=1)
