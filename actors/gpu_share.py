"""What an engine may take of a GPU that it shares with other workers: pure arithmetic over bytes.

vLLM otherwise takes what it finds free when it starts, 92 % of the whole GPU, and refuses to start where less is free.
It looks at that also where the size of its KV cache is given (0.29, source: vllm/v1/worker/utils.py, `request_memory`);
so a shared GPU needs both numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from records.errors import UserError

USABLE = 0.92
"""Of a GPU's memory, vLLM's own default: contexts and libraries of all its processes take the rest."""

_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuShare:
    """An engine's part of one GPU."""

    gpu_memory_utilization: float
    """Of the GPU's whole memory: weights, cache and working memory together."""
    kv_cache_memory_bytes: int


def share_of_gpu(*, num_gpus: float, total_bytes: int, weight_bytes: int, workspace_bytes: int) -> GpuShare:
    """Splits an engine's share.

    Args:
        num_gpus: The share, above 0 and below 1.
        total_bytes: Memory of the GPU.
        weight_bytes: What the loaded weights take.
        workspace_bytes: What is left to activations, the media encoder's included.

    Raises:
        UserError: Weights and working memory leave nothing for a cache.
    """
    assert 0 < num_gpus < 1, "who has whole GPUs shares none"
    mine = int(total_bytes * USABLE * num_gpus)
    cache = mine - weight_bytes - workspace_bytes
    if cache <= 0:
        raise UserError(
            f"{num_gpus:g} of a GPU of {total_bytes / _GIB:.1f} GiB is {mine / _GIB:.1f} GiB: weights of "
            f"{weight_bytes / _GIB:.1f} GiB and {workspace_bytes / _GIB:.1f} GiB to work with leave no KV cache; raise "
            "pool.num_gpus"
        )
    return GpuShare(gpu_memory_utilization=USABLE * num_gpus, kv_cache_memory_bytes=cache)


def with_share(engine_args: Mapping[str, Any], share: GpuShare) -> dict[str, Any]:
    """Engine arguments with the share's numbers; what the user gave stays."""
    given = {
        "gpu_memory_utilization": share.gpu_memory_utilization,
        "kv_cache_memory_bytes": share.kv_cache_memory_bytes,
    }
    return {**given, **engine_args}
