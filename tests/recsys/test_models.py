"""Both models equal what they are described as, position by position, and learn from nothing that comes later."""

import numpy as np
import pytest
import torch
from torch import nn

from recsys.items import ItemEncoder
from recsys.model import ModelConfig, ModelName, Recommender
from recsys.sasrec import SasRec, SasRecConfig
from recsys.softmax import Loss
from recsys.two_towers import TwoTowers, TwoTowersConfig

LENGTHS = torch.tensor([3, 1, 5])
HISTORIES = torch.tensor([[4, 1, 7, 20, 20], [2, 20, 20, 20, 20], [9, 8, 4, 3, 0]])


def test_sasrec_equals_torchs_transformer() -> None:
    torch.manual_seed(0)
    config = SasRecConfig(layers=2, heads=2, inner_dim=24, dropout=0.0)
    model = SasRec(config, dim=8, max_length=5).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    items = torch.randn(20, 8)
    layers = []
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(8, 2, 24, dropout=0.0, activation="gelu", batch_first=True)
        attention = layer.self_attn
        names = ("queries_keys_values", "out", "wide", "narrow", "attention_norm", "forward_norm")
        theirs = (None, attention.out_proj, layer.linear1, layer.linear2, layer.norm1, layer.norm2)
        for name, module in zip(names, theirs, strict=True):
            weights = getattr(block, name).state_dict()
            if module is None:
                attention.in_proj_weight.data, attention.in_proj_bias.data = weights["weight"], weights["bias"]
            else:
                module.load_state_dict(weights)
        layers.append(layer.eval())
    expected = []
    for history, length in zip(HISTORIES, LENGTHS.tolist(), strict=True):
        hidden = model.norm(items[history[:length]] + model.positions.weight[:length])[None]
        for layer in layers:
            hidden = layer(hidden, src_mask=nn.Transformer.generate_square_subsequent_mask(length), is_causal=True)
        expected.append(hidden[0])
    with torch.no_grad():
        every = model(items, HISTORIES, LENGTHS, last_only=False)
        last = model(items, HISTORIES, LENGTHS, last_only=True)
    torch.testing.assert_close(every, torch.cat(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, torch.stack([one[-1] for one in expected]), rtol=1e-4, atol=1e-5)


def test_two_towers_pool_by_age() -> None:
    torch.manual_seed(0)
    model = TwoTowers(TwoTowersConfig(inner_dim=16, dropout=0.0), dim=8, max_length=5).eval()
    nn.init.normal_(model.age_weights)
    items = torch.randn(20, 8)
    with torch.no_grad():
        every = model(items, HISTORIES, LENGTHS, last_only=False)
        expected = []
        for history, length in zip(HISTORIES, LENGTHS.tolist(), strict=True):
            for end in range(1, length + 1):
                weights = torch.softmax(model.age_weights[:end].flip(0), dim=0)
                expected.append(model.user_tower(weights @ items[history[:end]]))
        torch.testing.assert_close(every, torch.stack(expected))
        last = model(items, HISTORIES, LENGTHS, last_only=True)
        torch.testing.assert_close(last, every[LENGTHS.cumsum(0) - 1])
        targets = torch.stack([model.item_tower(item) for item in items])
        torch.testing.assert_close(model.targets(items), targets)


@pytest.mark.parametrize("name", ["sasrec", "two_towers"])
def test_what_comes_later_changes_nothing(name: ModelName) -> None:
    torch.manual_seed(0)
    model = Recommender(ModelConfig(name=name, dim=8), item_count=20, use_ids=True, features=None).eval()
    table, _ = model.item_vectors()
    changed = HISTORIES.clone()
    changed[2, 3:] = torch.tensor([11, 12])
    before, after = (
        model.users(table, histories, LENGTHS, last_only=False).detach() for histories in (HISTORIES, changed)
    )
    torch.testing.assert_close(before[:7], after[:7], rtol=0, atol=0)
    assert not torch.equal(before[7:], after[7:])


@pytest.mark.parametrize("name", ["sasrec", "two_towers"])
@pytest.mark.parametrize("temperature", [None, 0.1])
def test_the_loss_in_the_batch_sees_the_same_scores(name: ModelName, temperature: float | None) -> None:
    """Where the batch holds every item equally often, both losses are the same cross-entropy."""
    torch.manual_seed(0)
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    losses = []
    for loss in ("full", "in_batch"):
        torch.manual_seed(1)
        kind: Loss = "full" if loss == "full" else "in_batch"
        config = ModelConfig(
            name=name, dim=8, loss=kind, temperature=temperature,
            sasrec=SasRecConfig(dropout=0.0), two_towers=TwoTowersConfig(dropout=0.0),
        )  # fmt: skip
        model = Recommender(config, item_count=12, use_ids=True, features=features)
        nn.init.normal_(model.items.ids.weight if model.items.ids is not None else torch.empty(0))
        histories = torch.stack([torch.roll(torch.arange(12), -shift)[:4] for shift in range(12)])
        targets = ((histories + 1) % 12).flatten()[:, None]
        popularity = torch.full((12,), -np.log(12.0), dtype=torch.float32)
        lengths, shares = torch.full((12,), 4), torch.ones(len(targets), 1)
        value = model.loss(histories, lengths, targets, shares, popularity, torch.float32)
        value.backward()  # type: ignore[no-untyped-call]
        losses.append(value.item())
        assert all(parameter.grad is not None for parameter in model.parameters())
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)  # the full softmax may multiply in bfloat16


def test_items_are_ids_features_or_both() -> None:
    features = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    torch.manual_seed(0)
    both = ItemEncoder(item_count=6, dim=4, use_ids=True, features=features)
    only = ItemEncoder(item_count=6, dim=4, use_ids=False, features=features)
    assert both.ids is not None
    assert both.projection is not None
    assert only.projection is not None
    only.projection.load_state_dict(both.projection.state_dict())
    torch.testing.assert_close(both(), both.ids.weight + only())
    chosen = torch.tensor([4, 0, 4])
    torch.testing.assert_close(both(chosen), both()[chosen])
    assert "features" not in both.state_dict()
    with pytest.raises(ValueError, match="ids, features or both"):
        ItemEncoder(item_count=6, dim=4, use_ids=False, features=None)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="model: dim must be a multiple of 2 heads, unlike 7"):
        ModelConfig(name="sasrec", dim=7)
    assert ModelConfig(name="two_towers", dim=7).dim == 7
