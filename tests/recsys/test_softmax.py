"""Both losses equal torch's cross-entropy, in value and gradient."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recsys import softmax
from recsys.softmax import full_softmax_loss, in_batch_loss


def leaves(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def gradients(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Takes the gradients away."""
    found = [one.grad for one in tensors if one.grad is not None]
    assert len(found) == len(tensors)
    for one in tensors:
        one.grad = None
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_full_softmax_equals_cross_entropy(dtype: torch.dtype, tolerance: float) -> None:
    positions = 2 * softmax.CHUNK_ROWS + 17
    queries, items = leaves((positions, 16), (200, 16))
    targets = torch.randint(200, (positions, 2), generator=torch.Generator().manual_seed(1))
    shares = torch.tensor([0.75, 0.25]).expand(positions, 2)
    loss = full_softmax_loss(queries, items, targets, shares, dtype)
    (3 * loss).backward()  # type: ignore[no-untyped-call]
    ours = gradients(queries, items)
    wanted = torch.zeros(positions, 200).scatter_add(1, targets, shares)
    expected = F.cross_entropy(queries @ items.T, wanted)
    (3 * expected).backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    for one, other in zip(ours, gradients(queries, items), strict=True):
        assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing_of_the_full_softmax(dtype: torch.dtype) -> None:
    """A GPU trains under autocast, which makes a softmax float32 and products bfloat16; a CPU's does the latter."""
    queries, items = leaves((300, 16), (200, 16))
    targets = torch.randint(200, (300, 2), generator=torch.Generator().manual_seed(1))
    shares = torch.tensor([0.75, 0.25]).expand(300, 2)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = full_softmax_loss(queries, items, targets, shares, dtype)
        loss.backward()  # type: ignore[no-untyped-call]
        found.append([loss.detach(), *gradients(queries, items)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_in_batch_softmax_equals_its_formula_written_out() -> None:
    queries, items = leaves((7, 4), (3, 4))
    targets = torch.tensor([0, 1, 0, 2, 0, 1, 2])
    shares = torch.tensor([0.5, 0.3, 0.01])
    loss = in_batch_loss(queries, items, targets[:, None], torch.ones(7, 1), shares.log())
    expected = 0.0
    for query, target in zip(queries, targets.tolist(), strict=True):
        # A column for each position of the batch, as it is published; the positive's copies stand for the positive.
        corrected = [(query @ items[one] - shares[one].log()).exp().item() for one in targets.tolist()]
        positive = sum(value for value, one in zip(corrected, targets.tolist(), strict=True) if one == target)
        expected -= math.log(positive / sum(corrected)) / len(targets)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_in_batch_targets_count_by_their_shares() -> None:
    queries, items = leaves((3, 4), (3, 4))
    targets, popularity = torch.tensor([[0, 1], [2, 0], [1, 1]]), torch.tensor([0.5, 0.3, 0.01])
    shares = torch.tensor([[0.75, 0.25]] * 3)
    loss = in_batch_loss(queries, items, targets, shares, popularity.log())
    counts = torch.tensor([0.75 + 0.25, 0.25 + 1.0, 0.75])
    scores = queries @ items.T + (counts / popularity).log()
    wanted = torch.tensor([[0.75, 0.25, 0.0], [0.25, 0.0, 0.75], [0.0, 1.0, 0.0]])
    assert loss.item() == pytest.approx(F.cross_entropy(scores, wanted).item(), rel=1e-5)


def test_the_correction_makes_the_batch_an_estimate_of_the_catalogue() -> None:
    """Over many batches drawn by popularity the corrected sums have the catalogue's sum as their mean."""
    rng = np.random.default_rng(0)
    scores, shares = rng.normal(size=50), rng.dirichlet(np.full(50, 0.5)) * 0.9 + 0.1 / 50
    batches = rng.choice(50, size=(4000, 64), p=shares)
    sums = np.exp(scores[batches] - np.log(shares[batches])).sum(axis=1) / 64
    assert sums.mean() == pytest.approx(np.exp(scores).sum(), rel=0.02)


def test_without_bfloat16_instructions_a_cpu_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert softmax.product_dtype(torch.device("cpu")) == torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert softmax.product_dtype(torch.device("cpu")) == torch.bfloat16
