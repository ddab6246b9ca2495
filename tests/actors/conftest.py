"""Engines on tiny models, started once for all tests of this folder: a start takes tens of seconds."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.caption import CaptionConfig, CaptionStage
from actors.describe_audio import DescribeAudioConfig, DescribeAudioStage
from actors.vllm_config import EngineConfig, SamplingConfig, with_media_limits
from actors.vllm_engine import VllmEngine

ANSWER_TOKENS = 24
"""Long enough for one wrong number somewhere to change a word."""


def tiny_engine_config(model: Path) -> EngineConfig:
    """Small, float32, and the same on every machine."""
    engine_args = {"enforce_eager": True, "kv_cache_memory_bytes": 256 << 20, "max_num_seqs": 16}
    return EngineConfig(model=str(model), dtype="float32", max_model_len=4096, engine_args=engine_args)


def _caption_stage(model: Path) -> CaptionStage:
    config = CaptionConfig(engine=tiny_engine_config(model), sampling=SamplingConfig(max_tokens=ANSWER_TOKENS))
    engine = VllmEngine(with_media_limits(config.engine, {"image": 0, "video": 1}), stage="caption")
    return CaptionStage(config, engine=engine)


def with_sampling(stage: CaptionStage, sampling: SamplingConfig) -> CaptionStage:
    """Another stage on the same started engine, which stays the first one's to close."""
    return CaptionStage(dataclasses.replace(stage._config, sampling=sampling), engine=stage._engine)


@pytest.fixture(scope="package")
def qwen2_5_vl(tiny_models: Callable[[str], Path]) -> Iterator[CaptionStage]:
    """The caption stage on Qwen2.5-VL."""
    stage = _caption_stage(tiny_models("qwen2_5_vl"))
    yield stage
    stage.close()


@pytest.fixture(scope="package")
def qwen3_vl(tiny_models: Callable[[str], Path]) -> Iterator[CaptionStage]:
    """The caption stage on Qwen3-VL."""
    stage = _caption_stage(tiny_models("qwen3_vl"))
    yield stage
    stage.close()


@pytest.fixture(scope="package")
def qwen2_audio(tiny_models: Callable[[str], Path]) -> Iterator[DescribeAudioStage]:
    """The stage that describes sound, on Qwen2-Audio."""
    engine = tiny_engine_config(tiny_models("qwen2_audio"))
    stage = DescribeAudioStage(DescribeAudioConfig(engine=engine, sampling=SamplingConfig(max_tokens=ANSWER_TOKENS)))
    yield stage
    stage.close()
