"""The two losses: cross-entropy over the whole catalogue, and over the batch's own items with a popularity correction.

A position may have several targets, each with its share of 1: the item that comes next and those after it.

Shapes: T positions of a batch, W targets of a position, N items, M items of a batch, D dimensions.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["full", "in_batch"]

CHUNK_ROWS = 128
"""Positions whose scores exist at once on a CPU: with 20,000 items in bfloat16 they fit its last cache."""
CHUNK_SCORES = 2**27
"""Scores that exist at once on a GPU."""


def full_softmax_loss(queries: Tensor, items: Tensor, targets: Tensor, shares: Tensor, dtype: torch.dtype) -> Tensor:
    """Mean cross-entropy of each position's targets against the whole catalogue.

    Scores exist for some positions at a time and the gradients are made in the same pass (as in Liger Kernel,
    arXiv 2410.10989), so that T by N scores are never stored and read again.

    Args:
        queries: (T, D) float32.
        items: (N, D) float32.
        targets: (T, W) int64.
        shares: (T, W) float32, of sum 1 for each position.
        dtype: Of the scores and of the products, also under autocast; sums are float32.
    """
    loss: Tensor = _FullSoftmax.apply(queries, items, targets, shares, dtype)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        queries: Tensor,
        items: Tensor,
        targets: Tensor,
        shares: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        query_grads = torch.empty_like(queries)
        item_grads = torch.zeros_like(items)
        losses = torch.empty(len(queries), device=queries.device)
        rows = CHUNK_ROWS if queries.device.type == "cpu" else max(1, CHUNK_SCORES // len(items))
        # Autocast would choose other types, on a GPU float32 for the softmax, and the sums in place mix none.
        with torch.autocast(queries.device.type, enabled=False):
            queries_low, items_low = queries.to(dtype), items.to(dtype)
            for start in range(0, len(queries), rows):
                place = slice(start, start + rows)
                chunk, chosen, wanted = queries_low[place], targets[place], shares[place]
                found = torch.softmax(chunk @ items_low.T, dim=1)
                at_targets = found.gather(1, chosen).float().clamp_min(torch.finfo(torch.float32).tiny)
                losses[place] = -(wanted * at_targets.log()).sum(dim=1)
                found.scatter_add_(1, chosen, -wanted.to(dtype))
                query_grads[place] = found @ items_low
                item_grads += found.T @ chunk
        ctx.save_for_backward(query_grads.div_(len(queries)), item_grads.div_(len(queries)))
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # noqa: ANN401 - torch's context
        query_grads, item_grads = ctx.saved_tensors
        return query_grads * grad, item_grads * grad, None, None, None


def in_batch_loss(queries: Tensor, items: Tensor, targets: Tensor, shares: Tensor, log_popularity: Tensor) -> Tensor:
    """Mean cross-entropy of each position's targets against the batch's own target items.

    An item comes into a batch as often as it is popular, which a plain softmax would punish. So each score is lowered
    by the log of the item's share of the training events (Yi et al. 2019, equation 3): the sum over the batch is then
    an unbiased estimate of the sum over the catalogue. An item that is in the batch several times is scored once and
    weighted by its count.

    Args:
        queries: (T, D).
        items: (M, D) the different target items of the batch.
        targets: (T, W) int64 index into `items`.
        shares: (T, W) float32, of sum 1 for each position.
        log_popularity: (M,) log of each item's share of the training events.
    """
    counts = torch.zeros_like(log_popularity).index_add(0, targets.flatten(), shares.flatten())
    correction = counts.log() - log_popularity
    logs = F.log_softmax((queries @ items.T).float() + correction, dim=1)
    return -(shares * logs.gather(1, targets)).sum(dim=1).mean()


def product_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it faster than float32, which a CPU without the instructions does not."""
    if device.type == "cuda":
        return torch.bfloat16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
