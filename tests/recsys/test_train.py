"""Both models learn what there is to learn, with every kind of item and loss, and the same again from the same seed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys.baselines import popularity_lists
from recsys.measure import LIST_LENGTH, measure
from recsys.model import ModelConfig, ModelName
from recsys.protocol import Split
from recsys.scoring import model_lists
from recsys.softmax import Loss, full_softmax_loss
from recsys.train import TrainConfig, train
from tests.recsys.data import split_of, topic_split

FAST = TrainConfig(epochs=12, patience=12, batch_users=32, learning_rate=5e-3, device="cpu")


def hit_rate_of(split: Split, model: ModelName, loss: Loss, use_ids: bool, features: np.ndarray | None) -> float:
    config = ModelConfig(name=model, dim=16, loss=loss)
    trained, report = train(config, FAST, split, use_ids=use_ids, features=features, seed=0)
    assert report.epochs[report.best_epoch].ndcg == max(epoch.ndcg for epoch in report.epochs)
    return measure(model_lists(trained, split, "test", LIST_LENGTH), split, "test").cutoffs[0].hit_rate


@pytest.mark.parametrize("model", ["sasrec", "two_towers"])
@pytest.mark.parametrize("loss", ["full", "in_batch"])
@pytest.mark.parametrize("items", ["id", "features", "both"])
def test_models_learn_what_comes_next(model: ModelName, loss: Loss, items: str) -> None:
    split, features = topic_split()
    floor = measure(popularity_lists(split, "test", LIST_LENGTH), split, "test").cutoffs[0].hit_rate
    assert floor < 0.35
    found = hit_rate_of(split, model, loss, items != "features", None if items == "id" else features)
    assert found > 0.75


def test_the_weights_of_the_best_epoch_are_kept_and_training_stops() -> None:
    split, _ = topic_split(users=80)
    config = TrainConfig(epochs=200, patience=2, batch_users=16, learning_rate=1e-2, device="cpu")
    model, report = train(ModelConfig(name="sasrec", dim=8), config, split, use_ids=True, features=None, seed=1)
    assert len(report.epochs) == report.best_epoch + 3
    lists = model_lists(model, split, "validation", LIST_LENGTH)
    best = report.epochs[report.best_epoch]
    assert measure(lists, split, "validation").cutoffs[0].ndcg == pytest.approx(best.ndcg, abs=1e-9)


def test_a_seed_gives_the_same_model_again_and_another_another() -> None:
    split, features = topic_split(users=60)
    config = TrainConfig(epochs=2, batch_users=16, device="cpu")
    lists = []
    for seed in (3, 3, 4):
        model, _ = train(ModelConfig(name="sasrec", dim=8), config, split, use_ids=True, features=features, seed=seed)
        lists.append(model_lists(model, split, "test", LIST_LENGTH))
    assert np.array_equal(lists[0], lists[1])
    assert not np.array_equal(lists[0], lists[2])


def test_batches_hold_every_training_pair_once() -> None:
    from recsys.train import _Batches

    split = split_of([[1, 2, 3, 4, 5], [6, 7, 8], [9, 8, 7, 6]], 10)
    data = _Batches(split, 2, [1.0], torch.device("cpu"))
    histories, lengths, targets, shares = data.batch(torch.arange(len(data)))
    # Training parts: 1 2 3, of which two predict; 6, which predicts nothing; 9 8.
    assert lengths.tolist() == [2, 1]
    assert histories[0].tolist() == [1, 2]
    assert histories[1, 0].item() == 9
    assert targets.tolist() == [[2], [3], [8]]
    assert shares.tolist() == [[1.0]] * 3


def test_a_position_predicts_the_items_after_it_by_their_shares() -> None:
    from recsys.train import _Batches

    split = split_of([[1, 2, 3, 4, 5, 6], [9, 8, 7, 6]], 10)
    data = _Batches(split, 5, [0.5, 0.3, 0.2], torch.device("cpu"))
    histories, lengths, targets, shares = data.batch(torch.arange(len(data)))
    assert (histories[0].tolist(), lengths.tolist()) == ([1, 2, 3], [3, 1])
    assert [row[:count] for row, count in zip(targets.tolist(), (3, 2, 1, 1), strict=True)] == [
        [2, 3, 4],
        [3, 4],
        [4],
        [8],
    ]
    expected = [[0.5, 0.3, 0.2], [0.625, 0.375, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    np.testing.assert_allclose(shares.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["full", "in_batch"])
def test_models_that_look_further_ahead_learn_too(loss: Loss) -> None:
    split, _ = topic_split()
    config = replace(FAST, target_shares=(0.6, 0.4))
    trained, _ = train(
        ModelConfig(name="sasrec", dim=16, loss=loss), config, split, use_ids=True, features=None, seed=0
    )
    assert measure(model_lists(trained, split, "test", LIST_LENGTH), split, "test").cutoffs[0].hit_rate > 0.75


@pytest.mark.parametrize("mixed_precision", [True, False])
def test_without_mixed_precision_the_full_softmax_is_float32(
    monkeypatch: pytest.MonkeyPatch, mixed_precision: bool
) -> None:
    dtypes: set[torch.dtype] = set()

    def watched(queries: Tensor, items: Tensor, targets: Tensor, shares: Tensor, dtype: torch.dtype) -> Tensor:
        dtypes.add(dtype)
        return full_softmax_loss(queries, items, targets, shares, dtype)

    monkeypatch.setattr("recsys.model.full_softmax_loss", watched)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    config = TrainConfig(epochs=1, device="cpu", mixed_precision=mixed_precision)
    split, _ = topic_split(users=60)
    train(ModelConfig(name="sasrec", dim=8), config, split, use_ids=True, features=None, seed=0)
    assert dtypes == {torch.bfloat16 if mixed_precision else torch.float32}


@pytest.mark.parametrize("shares", [(), (0.0, 1.0), (1.0, -0.1)])
def test_wrong_shares_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="target_shares"):
        TrainConfig(target_shares=shares)


def test_no_sequence_to_train_on_is_an_error() -> None:
    split = split_of([[1, 2, 3]], 40)
    with pytest.raises(ValueError, match="two items in training"):
        train(ModelConfig(name="sasrec"), FAST, split, use_ids=True, features=None, seed=0)


def test_a_model_that_diverges_says_so() -> None:
    split, _ = topic_split(users=60)
    config = TrainConfig(epochs=3, learning_rate=1e30, device="cpu")
    with pytest.raises(ValueError, match="diverged"):
        train(ModelConfig(name="two_towers", dim=8), config, split, use_ids=True, features=None, seed=0)
