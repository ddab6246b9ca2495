"""Trains a recommender on the training parts, stopped by the validation items."""

import copy
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR

from recsys.metrics import gains, hits
from recsys.model import ModelConfig, Recommender
from recsys.protocol import Split
from recsys.ranking import ranks_in
from recsys.scoring import model_lists
from recsys.softmax import product_dtype

logger = logging.getLogger(__name__)

STOPPING_K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a model is trained.

    Raises:
        ValueError: A number is out of its range.
    """

    epochs: int = 14
    """At most so many passes over the users."""
    patience: int = 5
    """Epochs without a better validation nDCG@10 after which training ends."""
    batch_users: int = 128
    """Users whose whole sequences make one step."""
    learning_rate: float = 2e-3
    """Of the first step; it falls in a straight line, to 0 at the end of `epochs`."""
    weight_decay: float = 0.0
    """Decoupled, as in AdamW."""
    target_shares: tuple[float, ...] = (0.7, 0.2, 0.1)
    """How much of what a position is to predict is the next item, the one after it, and so on; `(1.0,)` is the next
    alone, as both models were published. Where a sequence ends before, its last items share what there is."""
    device: str = "auto"
    """`auto` (CUDA where there is a GPU), `cpu`, `cuda` or `cuda:<n>`."""
    mixed_precision: bool = True
    """bfloat16 on a GPU; on a CPU only the scores of the full softmax, where it has the instructions. Without it all is
    float32."""

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.batch_users) < 1:
            raise ValueError("train: epochs, patience and batch_users must be at least 1")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError("train: learning_rate must be above 0 and weight_decay at least 0")
        if not self.target_shares or self.target_shares[0] <= 0 or min(self.target_shares) < 0:
            raise ValueError("train: target_shares must begin above 0 and have nothing below it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the users, and the validation after it."""

    loss: float
    hit_rate: float
    """Validation HR@10."""
    ndcg: float
    """Validation nDCG@10."""
    train_cpu_seconds: float
    """Over all threads."""
    evaluate_cpu_seconds: float
    seconds: float
    """By the clock, both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """How training went."""

    epochs: tuple[Epoch, ...] = field(default_factory=tuple)
    best_epoch: int = 0
    """Index of the epoch whose weights are kept."""


class _Batches:
    """Training sequences as batches of users, in an order of their own each epoch."""

    def __init__(self, split: Split, max_length: int, target_shares: Sequence[float], device: torch.device) -> None:
        sequences, lengths = split.training_sequences(max_length + 1)
        able = lengths > 1  # one item predicts nothing
        # On the device as a whole: 4 bytes an event.
        self._sequences = torch.from_numpy(sequences[able]).to(device)
        self._lengths = torch.from_numpy(lengths[able]).to(device, torch.int64) - 1
        self._shares = torch.tensor(target_shares, device=device)

    def __len__(self) -> int:
        return len(self._lengths)

    def batch(self, users: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, L) histories, (B,) lengths, (T, W) targets and their (T, W) shares."""
        lengths = self._lengths[users]
        longest = int(lengths.max())
        sequences = self._sequences[users].long()
        places = torch.arange(longest, device=lengths.device)
        real = places < lengths[:, None]
        following = places[:, None] + torch.arange(1, len(self._shares) + 1, device=lengths.device)
        exists = (following <= lengths[:, None, None])[real]
        columns = following.flatten().clamp_max(longest)
        targets = sequences[:, columns].view(len(users), *following.shape)[real]
        shares = self._shares * exists
        # What is not there has no share, and points at the next item.
        targets = torch.where(exists, targets, targets[:, :1])
        return sequences[:, :longest], lengths, targets, shares / shares.sum(dim=1, keepdim=True)


def train(
    model_config: ModelConfig,
    config: TrainConfig,
    split: Split,
    *,
    use_ids: bool,
    features: npt.NDArray[np.float32] | None,
    seed: int,
) -> tuple[Recommender, TrainReport]:
    """Trains until validation stops getting better, and returns the best epoch's weights.

    Args:
        model_config: The model.
        config: How to train it.
        split: The users.
        use_ids: Whether items have vectors of their own to learn.
        features: (N, F) frozen features, or None.
        seed: Of weights, order and dropout. On one device with one number of threads, it gives the same model.

    Raises:
        ValueError: No user has a training sequence of two items, or the model diverged.
    """
    device = device_of(config.device)
    torch.manual_seed(seed)
    model = Recommender(model_config, item_count=split.item_count, use_ids=use_ids, features=features).to(device)
    data = _Batches(split, model_config.max_length, config.target_shares, device)
    if not len(data):
        raise ValueError("no user has two items in training")
    steps = _Steps(model, data, config, _log_popularity(split).to(device))
    orders = np.random.default_rng(seed)
    epochs: list[Epoch] = []
    best, best_state = 0, copy.deepcopy(model.state_dict())
    for number in range(config.epochs):
        epochs.append(_epoch(steps, orders.permutation(len(data)), split))
        logger.debug("epoch %d: %s", number, epochs[-1])
        if number == 0 or epochs[-1].ndcg > epochs[best].ndcg:
            best, best_state = number, copy.deepcopy(model.state_dict())
        elif number - best >= config.patience:
            break
    model.load_state_dict(best_state)
    return model, TrainReport(epochs=tuple(epochs), best_epoch=best)


def _log_popularity(split: Split) -> Tensor:
    """(N,) logarithm of each item's share of the training events; one that has none counts as one that has one."""
    counts = split.training_counts()
    log_counts = torch.from_numpy(np.log(np.maximum(counts, 1))).float()
    return log_counts - math.log(int(counts.sum()))


class _Steps:
    """A model and all that its steps change."""

    def __init__(self, model: Recommender, data: _Batches, config: TrainConfig, log_popularity: Tensor) -> None:
        self.model = model
        self._data = data
        self._config = config
        self._log_popularity = log_popularity
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        steps = config.epochs * math.ceil(len(data) / config.batch_users)
        self._schedule = LinearLR(self._optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)

    def over(self, order: npt.NDArray[np.int64]) -> float:
        """One pass over the users in this order; returns the mean loss.

        Raises:
            ValueError: The model diverged.
        """
        self.model.train()
        device, mixed = self._log_popularity.device, self._config.mixed_precision
        dtype = product_dtype(device) if mixed else torch.float32
        losses: list[Tensor] = []
        for users in torch.split(torch.from_numpy(order).to(device), self._config.batch_users):
            histories, lengths, targets, shares = self._data.batch(users)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed and device.type == "cuda"):
                loss = self.model.loss(histories, lengths, targets, shares, self._log_popularity, dtype)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()
            losses.append(loss.detach())
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise ValueError("the loss is no longer finite: the model diverged; lower the learning rate")
        return mean


def _epoch(steps: _Steps, order: npt.NDArray[np.int64], split: Split) -> Epoch:
    """Trains once over the users, and validates."""
    start, start_cpu = time.perf_counter(), time.process_time()
    loss = steps.over(order)
    trained_cpu = time.process_time()
    ranks = ranks_in(model_lists(steps.model, split, "validation", STOPPING_K), split.targets("validation"))
    return Epoch(
        loss=loss,
        hit_rate=float(hits(ranks, STOPPING_K).mean()),
        ndcg=float(gains(ranks, STOPPING_K).mean()),
        train_cpu_seconds=trained_cpu - start_cpu,
        evaluate_cpu_seconds=time.process_time() - trained_cpu,
        seconds=time.perf_counter() - start,
    )


def device_of(name: str) -> torch.device:
    """`auto` is CUDA where there is a GPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
