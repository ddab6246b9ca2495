"""Items as vectors: an embedding of the id, a projection of frozen features, or the sum of both.

Shapes: M items asked for, N items of the catalogue, F dimensions of the features, D dimensions of the model.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

INITIAL_STD = 0.02


class ItemEncoder(nn.Module):
    """The table of item vectors that a model reads."""

    features: Tensor | None

    def __init__(self, *, item_count: int, dim: int, use_ids: bool, features: npt.NDArray[np.float32] | None) -> None:
        """Builds the table.

        Args:
            item_count: N.
            dim: D.
            use_ids: Whether each item has a vector of its own to learn.
            features: (N, F) frozen, centred and scaled, zeros where an item has none; None for none.

        Raises:
            ValueError: Neither ids nor features.
        """
        super().__init__()
        if not use_ids and features is None:
            raise ValueError("items need ids, features or both")
        self.ids = nn.Embedding(item_count, dim) if use_ids else None
        if self.ids is not None:
            nn.init.normal_(self.ids.weight, std=INITIAL_STD)
        self.register_buffer("features", None if features is None else torch.from_numpy(features), persistent=False)
        self.projection = None if features is None else nn.Linear(features.shape[1], dim)
        if self.projection is not None:
            # Features have unit variance: their projections start as large as the ids' vectors.
            nn.init.normal_(self.projection.weight, std=INITIAL_STD / self.projection.in_features**0.5)
            nn.init.zeros_(self.projection.bias)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """(M, D) vectors of some items, or (N, D) of all.

        Args:
            items: (M,) int64.
        """
        parts: list[Tensor] = []
        if self.ids is not None:
            parts.append(self.ids.weight if items is None else self.ids(items))
        if self.projection is not None and self.features is not None:
            parts.append(self.projection(self.features if items is None else self.features[items]))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]
