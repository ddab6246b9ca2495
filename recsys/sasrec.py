"""SASRec: self-attention over the history predicts the next item (Kang and McAuley 2018, arXiv 1808.09781).

Shapes: B users, L places, T = all real places of the batch, M items, D dimensions, H heads.

Trained on all positions at once, as in the paper: a causal mask makes each position see what came before. Linear layers
and norms run on the T real places alone; only the attention itself sees padding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.items import INITIAL_STD


@dataclass(frozen=True, slots=True, kw_only=True)
class SasRecConfig:
    """The architecture.

    Raises:
        ValueError: A number is out of its range.
    """

    layers: int = 2
    heads: int = 2
    inner_dim: int = 256
    """Width of the feed-forward layers."""
    dropout: float = 0.4

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.inner_dim) < 1 or not 0 <= self.dropout < 1:
            raise ValueError("sasrec: layers, heads and inner_dim must be at least 1, dropout between 0 and 1")


class SasRec(nn.Module):
    """The users' side; items are the same table on both sides."""

    def __init__(self, config: SasRecConfig, *, dim: int, max_length: int) -> None:
        """Builds the layers.

        Args:
            config: The architecture.
            dim: D, a multiple of the heads.
            max_length: The longest history, L at most.
        """
        super().__init__()
        assert dim % config.heads == 0, "ModelConfig sees to it"
        self.positions = nn.Embedding(max_length, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(config, dim) for _ in range(config.layers))
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=INITIAL_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, items: Tensor, histories: Tensor, lengths: Tensor, *, last_only: bool) -> Tensor:
        """What each position looks for.

        Args:
            items: (M, D) item vectors.
            histories: (B, L) index into `items`, oldest first, anything behind a history's end.
            lengths: (B,) lengths, above 0.
            last_only: Only each history's last position.

        Returns:
            (T, D), user by user; (B, D) with `last_only`.
        """
        places = Places(histories.shape[1], lengths)
        hidden: Tensor = F.embedding(places.packed(histories), items) + self.positions(places.columns)
        hidden = self.dropout(self.norm(hidden))
        for number, block in enumerate(self.blocks):
            hidden = block(hidden, places, last_only and number == len(self.blocks) - 1)
        return hidden

    def targets(self, items: Tensor) -> Tensor:
        """(M, D) what item vectors are matched as: themselves."""
        return items


class Places:
    """Where the real places of a padded batch are."""

    def __init__(self, length: int, lengths: Tensor) -> None:
        """Finds the real places of histories of (B,) lengths, padded to `length`."""
        self.real = torch.arange(length, device=lengths.device) < lengths[:, None]
        """(B, L) whether a place is no padding."""
        self._flat = self.real.flatten().nonzero().flatten()
        # Padding takes what some real place has: nobody sees it, and one gather is cheaper than zeros and a scatter.
        self._source = self.real.flatten().cumsum(0).sub_(1)
        self.columns = self._flat % length
        """(T,) place in its history of each real place."""
        self.last = lengths.cumsum(0) - 1
        """(B,) index into the real places of each history's last one."""

    def packed(self, padded: Tensor) -> Tensor:
        """(B, L, …) to (T, …)."""
        return padded.flatten(0, 1).index_select(0, self._flat)

    def padded(self, packed: Tensor) -> Tensor:
        """(T, D) to (B, L, D); what is not real has some other place's values."""
        return packed.index_select(0, self._source).view(*self.real.shape, -1)


class _Block(nn.Module):
    """Attention and a feed-forward layer, each followed by dropout, the residual and a norm."""

    def __init__(self, config: SasRecConfig, dim: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.wide = nn.Linear(dim, config.inner_dim)
        self.narrow = nn.Linear(config.inner_dim, dim)
        self.attention_norm = nn.LayerNorm(dim)
        self.forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, places: Places, last_only: bool) -> Tensor:
        if last_only:
            hidden, attended = hidden[places.last], self._attend_last(hidden, places)
        else:
            attended = self._attend(hidden, places)
        hidden = self.attention_norm(hidden + self.dropout(self.out(attended)))
        changed: Tensor = self.forward_norm(hidden + self.dropout(self.narrow(F.gelu(self.wide(hidden)))))
        return changed

    def _attend(self, hidden: Tensor, places: Places) -> Tensor:
        """(T, D) what each place takes from itself and those before it: padding comes after, so nobody sees it."""
        padded = places.padded(self.queries_keys_values(hidden))
        users, length, width = padded.shape
        heads = padded.view(users, length, 3, self.heads, width // 3 // self.heads).permute(2, 0, 3, 1, 4)
        rate = self.dropout.p if self.training else 0.0
        queries, keys, values = heads.unbind(0)
        attended = F.scaled_dot_product_attention(queries, keys, values, dropout_p=rate, is_causal=True)
        return places.packed(attended.transpose(1, 2).flatten(2))

    def _attend_last(self, hidden: Tensor, places: Places) -> Tensor:
        """(B, D) the same for each history's last place alone; only used without gradients and dropout."""
        dim = hidden.shape[1]
        weight, bias = self.queries_keys_values.weight, self.queries_keys_values.bias
        users, length = places.real.shape
        split = (self.heads, dim // self.heads)
        queries = F.linear(hidden[places.last], weight[:dim], bias[:dim]).view(users, 1, *split).transpose(1, 2)
        both = places.padded(F.linear(hidden, weight[dim:], bias[dim:])).view(users, length, 2, *split)
        keys, values = both.permute(2, 0, 3, 1, 4).unbind(0)
        seen = places.real[:, None, None]
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        return attended.transpose(1, 2).flatten(1)
