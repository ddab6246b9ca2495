"""What must hold on any NVIDIA GPU: engines answer there, and the transcriber finds CUDA's libraries."""

from itertools import pairwise

import pytest

from actors.caption import CaptionConfig, CaptionStage
from actors.transcribe import TranscribeConfig, TranscribeStage
from actors.vllm_config import EngineConfig, SamplingConfig
from records.outcomes import Caption, Transcript
from tests.actors.clips import moving_noise
from tests.actors.conftest import ANSWER_TOKENS
from tests.actors.rows import make_row
from tests.conftest import TinyModels
from tests.sounds import babble, silence, to_audio

pytestmark = [pytest.mark.engine, pytest.mark.needs_gpu]


def test_the_captioner_answers_every_row(tiny_models: TinyModels) -> None:
    from vllm.platforms import current_platform

    assert current_platform.is_cuda(), "the installed vLLM is not the one for GPUs"
    engine = EngineConfig(
        model=str(tiny_models("qwen2_5_vl")),
        dtype="float16",
        max_model_len=4096,
        # A small share, so that engines of other tests may be there.
        engine_args={"enforce_eager": True, "kv_cache_memory_bytes": 256 << 20, "gpu_memory_utilization": 0.3},
    )
    stage = CaptionStage(CaptionConfig(engine=engine, sampling=SamplingConfig(max_tokens=ANSWER_TOKENS)))
    try:
        outcomes = stage([make_row(str(seed), frames=moving_noise(seed)) for seed in range(5)])
    finally:
        stage.close()
    captions = [outcome for outcome in outcomes if isinstance(outcome, Caption)]
    assert len(captions) == len(outcomes) == 5, outcomes
    assert all(caption.finish_reason and caption.output_tokens for caption in captions), captions


def test_the_transcriber_gives_segments_in_order(tiny_models: TinyModels) -> None:
    config = TranscribeConfig(
        model=str(tiny_models("whisper")),
        device="cuda",
        compute_type="float32",
        languages=("en",),
        temperatures=(0.0,),
        no_speech_threshold=None,
    )
    sound = to_audio(silence(1), babble(40, 2), silence(4), babble(31, 3))
    (transcript,) = TranscribeStage(config)([make_row(audio=sound)])
    assert isinstance(transcript, Transcript), transcript
    times = [(segment.start_seconds, segment.end_seconds) for segment in transcript.segments]
    assert len(times) >= 2
    assert all(0 <= start < end <= 76 for start, end in times), times
    assert all(one[1] <= other[0] for one, other in pairwise(times)), times
