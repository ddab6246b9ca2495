"""Ready configs: Python functions that return a full one. Choose by name, override by field."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from actors.caption import CaptionConfig
from actors.decode_config import DecodeConfig
from actors.describe_audio import DescribeAudioConfig
from actors.embed import EmbedConfig
from actors.stage import PoolConfig
from actors.tag_audio import TagAudioConfig
from actors.transcribe import TranscribeConfig
from actors.vllm_config import EngineConfig, SamplingConfig
from pipeline.config import RunConfig
from pipeline.graph import GraphConfig
from records.errors import UserError

_GIB = 2**30
_MIB = 2**20
_MOST = 64
"""Workers of a pool that grows with the cluster: as many as its nodes hold, one of every engine on each GPU."""


def _cpu_engine(kv_cache_mib: int) -> dict[str, object]:
    """vLLM's arguments on a CPU. The cache has a size: left to itself each engine asks for most of the memory."""
    return {"enforce_eager": True, "max_num_seqs": 8, "kv_cache_memory_bytes": kv_cache_mib * _MIB}


def tiny() -> RunConfig:
    """Random weights of the real architectures, built on this machine: no hub, no GPU, float32. The words are noise."""
    pool = PoolConfig(num_cpus=0.5, batch_rows=8)
    return RunConfig(
        decode=DecodeConfig(max_frames=8, pool=PoolConfig(num_cpus=0.5, calls=4)),
        caption=CaptionConfig(
            engine=EngineConfig(
                model="tiny:qwen2_5_vl", dtype="float32", max_model_len=2048, engine_args=_cpu_engine(64)
            ),
            sampling=SamplingConfig(max_tokens=24),
            pool=PoolConfig(num_cpus=0.5, calls=2),
        ),
        transcribe=TranscribeConfig(
            model="tiny:whisper", device="cpu", compute_type="float32", temperatures=(0.0,), beam_size=1, pool=pool
        ),
        describe_audio=DescribeAudioConfig(
            engine=EngineConfig(
                model="tiny:qwen2_audio", dtype="float32", max_model_len=2048, engine_args=_cpu_engine(64)
            ),
            sampling=SamplingConfig(max_tokens=16),
            pool=PoolConfig(num_cpus=0.5, calls=2),
        ),
        tag_audio=TagAudioConfig(model="tiny:ast", pool=pool),
        embed=EmbedConfig(model="tiny:bert", dtype="float32", pool=PoolConfig(num_cpus=0.5, batch_rows=16)),
        graph=GraphConfig(block_rows=4),
    )


def small() -> RunConfig:
    """The smallest models of each family that are worth reading, on a laptop's CPU.

    `describe_audio` is left out: the smallest model of its family has 8 billion parameters. `stages` brings it in.
    """
    pool = PoolConfig(num_cpus=0.5, batch_rows=8)
    return RunConfig(
        decode=DecodeConfig(max_frames=16, max_frame_pixels=256 * 28 * 28, pool=PoolConfig(num_cpus=1, calls=4)),
        caption=CaptionConfig(
            engine=EngineConfig(
                model="Qwen/Qwen2.5-VL-3B-Instruct", dtype="bfloat16", max_model_len=8192, engine_args=_cpu_engine(1024)
            ),
            sampling=SamplingConfig(max_tokens=192),
            pool=PoolConfig(num_cpus=0.5, calls=2, memory_bytes=0),
        ),
        transcribe=TranscribeConfig(model="Systran/faster-whisper-small", device="cpu", compute_type="int8", pool=pool),
        describe_audio=DescribeAudioConfig(
            engine=EngineConfig(
                model="Qwen/Qwen2-Audio-7B-Instruct",
                dtype="bfloat16",
                max_model_len=4096,
                engine_args=_cpu_engine(1024),
            ),
            sampling=SamplingConfig(max_tokens=128),
        ),
        tag_audio=TagAudioConfig(pool=pool),
        embed=EmbedConfig(model="BAAI/bge-small-en-v1.5", pool=PoolConfig(num_cpus=0.5, batch_rows=16)),
        stages=("decode", "caption", "transcribe", "tag_audio", "embed"),
        graph=GraphConfig(block_rows=4),
    )


def paper() -> RunConfig:
    """The model families of arXiv 2508.09789: Qwen-VL, Whisper, Qwen-Audio and BGE. One GPU of 80 GB, or several.

    The shares of a GPU add up to one. The captioner's is more than half, so that no two share one; `pipeline.spec` has
    them asked for in an order in which the others find room beside it. docs/gpu.md has what each took of an H100.
    """
    return RunConfig(
        caption=CaptionConfig(
            engine=EngineConfig(
                model="Qwen/Qwen2.5-VL-7B-Instruct",
                dtype="bfloat16",
                engine_args={"max_num_seqs": 64},
                workspace_bytes=5 * _GIB,
            ),
            sampling=SamplingConfig(max_tokens=512),
            pool=PoolConfig(num_gpus=0.52, max_actors=_MOST, calls=8),
        ),
        describe_audio=DescribeAudioConfig(
            engine=EngineConfig(
                model="Qwen/Qwen2-Audio-7B-Instruct",
                dtype="bfloat16",
                max_model_len=4096,
                engine_args={"max_num_seqs": 64},
                workspace_bytes=3 * _GIB,
            ),
            pool=PoolConfig(num_gpus=0.32, max_actors=_MOST, calls=8),
        ),
        transcribe=TranscribeConfig(pool=PoolConfig(num_gpus=0.08, max_actors=_MOST, batch_rows=16)),
        tag_audio=TagAudioConfig(pool=PoolConfig(num_gpus=0.04, max_actors=_MOST, batch_rows=16)),
        embed=EmbedConfig(pool=PoolConfig(num_gpus=0.04, max_actors=_MOST, batch_rows=64)),
        decode=DecodeConfig(pool=PoolConfig(max_actors=_MOST, calls=4)),
    )


def modern() -> RunConfig:
    """Newer open models in the same roles: Qwen3-VL, Whisper large v3 turbo. One GPU of 80 GB, or several."""
    base = paper()
    return RunConfig(
        caption=CaptionConfig(
            engine=EngineConfig(
                model="Qwen/Qwen3-VL-8B-Instruct",
                dtype="bfloat16",
                engine_args={"max_num_seqs": 64},
                workspace_bytes=5 * _GIB,
            ),
            sampling=SamplingConfig(max_tokens=512),
            pool=base.caption.pool,
        ),
        describe_audio=base.describe_audio,
        transcribe=TranscribeConfig(
            model="deepdml/faster-whisper-large-v3-turbo-ct2",
            pool=PoolConfig(num_gpus=0.08, max_actors=_MOST, batch_rows=16),
        ),
        tag_audio=base.tag_audio,
        embed=base.embed,
        decode=replace(base.decode, max_frame_pixels=768 * 32 * 32),  # its merged patches are larger
    )


RECIPES: Mapping[str, Callable[[], RunConfig]] = {"tiny": tiny, "small": small, "paper": paper, "modern": modern}
"""What `--recipe` chooses from."""


def recipe(name: str) -> RunConfig:
    """The config of that name.

    Raises:
        UserError: There is none.
    """
    if name not in RECIPES:
        raise UserError(f"no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]()
