"""Engines on a share of a GPU: their memory follows from the share and their weights, and no fingerprint from it."""

from collections.abc import Callable

import pytest

from actors.gpu_share import share_of_gpu
from actors.vllm_config import EngineConfig, engine_fingerprint
from models.weights import weight_bytes
from pipeline.builders import sharing_engine
from pipeline.config import RunConfig
from pipeline.recipes import modern, paper
from records.errors import UserError
from tests.conftest import TinyModels

GIB = 2**30


def test_an_engine_gets_what_its_share_leaves_beside_its_weights(tiny_models: TinyModels) -> None:
    folder = tiny_models("qwen2_5_vl")
    engine = EngineConfig(model=str(folder), dtype="float32", engine_args={"max_num_seqs": 8})
    shared = sharing_engine(engine, 0.5, 80 * GIB)
    weights = weight_bytes(folder, "float32")
    assert weights > 1_000_000
    assert shared.engine_args == {
        "gpu_memory_utilization": pytest.approx(0.46),
        "kv_cache_memory_bytes": int(80 * GIB * 0.92 * 0.5) - weights - engine.workspace_bytes,
        "max_num_seqs": 8,
    }
    assert engine_fingerprint(shared) == engine_fingerprint(engine)


def test_what_the_user_says_of_memory_stays_and_no_weights_are_read() -> None:
    cache = EngineConfig(model="nowhere", engine_args={"kv_cache_memory_bytes": 5})
    assert sharing_engine(cache, 0.5, 80 * GIB).engine_args == {
        "gpu_memory_utilization": pytest.approx(0.46),
        "kv_cache_memory_bytes": 5,
    }
    share = EngineConfig(model="nowhere", engine_args={"gpu_memory_utilization": 0.3})
    assert sharing_engine(share, 0.5, 80 * GIB) == share


def test_a_share_without_room_for_a_cache_is_refused(tiny_models: TinyModels) -> None:
    with pytest.raises(UserError, match="leave no KV cache"):
        sharing_engine(EngineConfig(model=str(tiny_models("qwen2_5_vl"))), 0.1, 8 * GIB)


PUBLISHED = {
    "Qwen/Qwen2.5-VL-7B-Instruct": (8.29e9, 2 * 28 * 4 * 128 * 2),
    "Qwen/Qwen3-VL-8B-Instruct": (8.77e9, 2 * 36 * 8 * 128 * 2),
    "Qwen/Qwen2-Audio-7B-Instruct": (8.40e9, 2 * 32 * 32 * 128 * 2),
}
"""Parameters and bytes of KV cache a token in 16 bits (layers, KV heads, width), by the models' pages on the hub."""


@pytest.mark.parametrize("recipe", [paper, modern])
@pytest.mark.parametrize("stage", ["caption", "describe_audio"])
def test_a_recipes_share_of_80_gb_holds_weights_and_two_of_the_longest_requests(
    recipe: Callable[[], RunConfig], stage: str
) -> None:
    config = getattr(recipe(), stage)
    parameters, token_bytes = PUBLISHED[config.engine.model]
    assert "kv_cache_memory_bytes" not in config.engine.engine_args, "it follows from the share"
    share = share_of_gpu(
        num_gpus=config.pool.num_gpus,
        total_bytes=int(79.6 * GIB),
        weight_bytes=int(2 * parameters),
        workspace_bytes=config.engine.workspace_bytes,
    )
    assert share.kv_cache_memory_bytes >= 2 * config.engine.max_model_len * token_bytes
