"""Shares of a GPU: what engines take together fits it, and follows from the share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.gpu_share import USABLE, share_of_gpu, with_share
from records.errors import UserError

GIB = 2**30


def test_half_a_gpu_of_80_gib_with_a_7b_model() -> None:
    share = share_of_gpu(num_gpus=0.5, total_bytes=80 * GIB, weight_bytes=16 * GIB, workspace_bytes=4 * GIB)
    assert share.gpu_memory_utilization == pytest.approx(0.46)
    assert share.kv_cache_memory_bytes / GIB == pytest.approx(36.8 - 20, abs=1e-6)


@given(
    total=st.integers(8, 200),
    shares=st.lists(st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.3, 0.5]), min_size=1, max_size=8).filter(
        lambda all_of: sum(all_of) <= 1
    ),
    weights=st.integers(0, 40),
)
def test_engines_that_fit_a_gpu_by_their_shares_fit_it_by_their_bytes(
    total: int, shares: list[float], weights: int
) -> None:
    taken = 0
    for one in shares:
        try:
            share = share_of_gpu(num_gpus=one, total_bytes=total * GIB, weight_bytes=weights * GIB, workspace_bytes=GIB)
        except UserError:
            assert (weights + 1) * GIB >= int(total * GIB * USABLE * one)
            continue
        assert share.kv_cache_memory_bytes > 0
        taken += share.kv_cache_memory_bytes + (weights + 1) * GIB
        # What vLLM asks for at its start is free even when all others have taken all of theirs.
        assert total * GIB * (1 - USABLE * (sum(shares) - one)) >= share.gpu_memory_utilization * total * GIB
    assert taken <= total * GIB * USABLE


def test_a_share_that_is_too_small_says_what_it_would_need() -> None:
    with pytest.raises(UserError, match=r"0\.3 of a GPU of 24\.0 GiB is 6\.6 GiB: weights of 15\.0 GiB .* raise pool"):
        share_of_gpu(num_gpus=0.3, total_bytes=24 * GIB, weight_bytes=15 * GIB, workspace_bytes=GIB)


def test_what_the_user_says_stays() -> None:
    share = share_of_gpu(num_gpus=0.5, total_bytes=80 * GIB, weight_bytes=16 * GIB, workspace_bytes=4 * GIB)
    assert with_share({"kv_cache_memory_bytes": 5, "max_num_seqs": 8}, share) == {
        "gpu_memory_utilization": share.gpu_memory_utilization,
        "kv_cache_memory_bytes": 5,
        "max_num_seqs": 8,
    }
