"""Captions: the words of transformers, the times that reach the model, order and failures, on real engines."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from actors.caption import DEFAULT_PROMPT, CaptionConfig, CaptionStage, fingerprint_fields
from actors.vllm_config import EngineConfig, SamplingConfig
from actors.vllm_engine import Generated, VllmEngine
from records.errors import Failure, FailureKind, UserError
from records.media import Frames
from records.outcomes import Caption, Note
from tests.actors.clips import moving_noise
from tests.actors.conftest import ANSWER_TOKENS, with_sampling
from tests.actors.rows import make_row

RATES = (0.5, 2.0, 8.0)
FAMILIES = ("qwen2_5_vl", "qwen3_vl")


@pytest.fixture(params=FAMILIES)
def stage(request: pytest.FixtureRequest) -> CaptionStage:
    """The caption stage, on each family."""
    return cast(CaptionStage, request.getfixturevalue(request.param))


class Reference:
    """The same model in transformers, told the times by frame number and frame rate.

    Where a Qwen2.5-VL clip lasts longer in positions than its frames are wide, transformers 5 lets the text go on from
    the frames' width, vLLM from the highest position plus one. The latter is the rule that came with the model
    (huggingface/transformers pull request 35569), so it is put back here.
    """

    def __init__(self, stage: CaptionStage) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        model = stage._config.engine.model
        self.processor = AutoProcessor.from_pretrained(model)
        self.model = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32).eval()
        system = {"role": "system", "content": stage._config.system_prompt}
        user = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": DEFAULT_PROMPT}]}
        self.prompt = self.processor.apply_chat_template([system, user], add_generation_prompt=True, tokenize=False)
        self.shifts: list[int] = []
        if stage._model_type == "qwen2_5_vl":
            self.rope_index = self.model.model.get_rope_index
            self.model.model.get_rope_index = self.published_rope_index

    def published_rope_index(self, input_ids: torch.Tensor, **rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        positions, _ = self.rope_index(input_ids=input_ids, **rest)
        after = int((input_ids[0] == self.model.config.video_token_id).nonzero()[-1]) + 1
        shift = positions[:, 0, :after].max() + 1 - positions[0, 0, after]
        positions[:, :, after:] += shift
        self.shifts.append(int(shift))
        return positions, (positions.max() + 1 - input_ids.shape[1]).reshape(1, 1)

    def inputs(self, frames: Frames) -> Mapping[str, Any]:
        metadata = {
            "fps": frames.source_fps,
            "frames_indices": list(frames.indices),
            "total_num_frames": frames.source_frames,
            "duration": frames.duration_seconds,
        }
        return cast(
            Mapping[str, Any],
            self.processor(
                text=[self.prompt],
                videos=[frames.pixels],
                video_metadata=[metadata],
                do_sample_frames=False,
                return_tensors="pt",
            ),
        )

    def greedy(self, frames: Frames) -> tuple[tuple[int, ...], float]:
        """The likeliest tokens, and by how much the closest choice was won."""
        inputs = self.inputs(frames)
        answer = self.model.generate(
            **inputs,
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        tokens = tuple(answer.sequences[0, inputs["input_ids"].shape[1] :].tolist())
        best = [logits[0].topk(2).values for logits in answer.logits]
        return tokens, min(float(first - second) for first, second in best)


def generate(stage: CaptionStage, clips: list[Frames]) -> list[Generated]:
    """What the stage's engine answers, tokens included."""
    requests = [stage.request(frames) for frames in clips]
    answers = stage._engine.generate_many(requests, SamplingConfig(max_tokens=ANSWER_TOKENS), 300.0)
    return [cast(Generated, answer) for answer in answers]


@pytest.mark.engine
def test_tokens_equal_transformers_greedy(stage: CaptionStage) -> None:
    clips = [moving_noise(seed, fps=fps) for seed, fps in enumerate(RATES * 2)]
    clips += [moving_noise(7, count=5), moving_noise(8, count=2, height=64, width=224)]
    reference = Reference(stage)
    expected = [reference.greedy(frames) for frames in clips]
    answers = generate(stage, clips)
    # Two words that score alike to the fourth decimal are told apart by rounding alone.
    clear = [index for index, (_, margin) in enumerate(expected) if margin > 1e-4]
    assert len(clear) >= 6
    assert [answers[index].token_ids for index in clear] == [expected[index][0] for index in clear]
    assert [answer.prompt_tokens for answer in answers] == [
        reference.inputs(frames)["input_ids"].shape[1] for frames in clips
    ]
    assert len({answer.token_ids for answer in answers}) == len(clips), "the frames must decide the words"
    assert not reference.shifts or {0} < set(reference.shifts), "both sides of the two rules, and plain transformers"


@pytest.mark.engine
def test_the_times_alone_change_the_caption(stage: CaptionStage) -> None:
    answers = generate(stage, [moving_noise(1, fps=fps) for fps in RATES])
    assert len({answer.token_ids for answer in answers}) == len(RATES)


@pytest.mark.engine
@pytest.mark.parametrize("fps", RATES)
def test_qwen2_5_vl_is_told_the_seconds_of_each_step(qwen2_5_vl: CaptionStage, fps: float) -> None:
    assert seconds_per_step(qwen2_5_vl, moving_noise(1, fps=fps)) == pytest.approx(2 / fps, rel=1e-6)


@pytest.mark.engine
@pytest.mark.parametrize("fps", RATES)
def test_qwen3_vl_reads_the_time_of_each_step(qwen3_vl: CaptionStage, fps: float) -> None:
    middles = [(2 * step + 0.5) / fps for step in range(4)]
    assert times_in_prompt(qwen3_vl, moving_noise(1, fps=fps)) == [f"{middle:.1f}" for middle in middles]


@pytest.mark.engine
def test_times_hold_at_a_variable_frame_rate(qwen2_5_vl: CaptionStage, qwen3_vl: CaptionStage) -> None:
    even = moving_noise(1)
    times = (0.0, 0.2, 0.4, 1.4, 5.0, 9.0, 9.5, 10.3)
    frames = dataclasses.replace(even, times_seconds=times, duration_seconds=12.0)
    assert times_in_prompt(qwen3_vl, frames) == ["0.1", "0.9", "7.0", "9.9"]
    assert seconds_per_step(qwen2_5_vl, frames) == pytest.approx(3.0, rel=1e-6)


@pytest.mark.engine
def test_frames_are_not_resized_again(stage: CaptionStage) -> None:
    frames = moving_noise(1, height=64, width=96) if "qwen3" in stage._model_type else moving_noise(1, width=84)
    patch = 16 if "qwen3" in stage._model_type else 14
    grid = video_features(stage, frames)["video_grid_thw"].data.flatten().tolist()
    assert grid == [4, frames.pixels.shape[1] // patch, frames.pixels.shape[2] // patch]


@pytest.mark.engine
def test_order_and_failures(stage: CaptionStage) -> None:
    ribbon = dataclasses.replace(moving_noise(3), pixels=np.zeros((8, 2, 1000, 3), dtype=np.uint8))
    endless = moving_noise(4, count=600, fps=12.0)
    good = {0: moving_noise(1), 3: moving_noise(2), 5: moving_noise(5, count=1)}
    clips = [good[0], None, ribbon, good[3], endless, good[5]]
    rows = [make_row(str(index), frames=frames) for index, frames in enumerate(clips)]
    outcomes = stage(rows)
    assert outcomes[1] == Caption(text="", note=Note.NO_VIDEO)
    assert isinstance(outcomes[2], Failure)
    assert (outcomes[2].stage, outcomes[2].kind) == ("caption", FailureKind.ENGINE_ERROR)
    assert "aspect ratio" in outcomes[2].message
    assert isinstance(outcomes[4], Failure)
    assert outcomes[4].kind == FailureKind.TOO_LONG
    texts = [answer.text.strip() for answer in generate(stage, list(good.values()))]
    captions = [cast(Caption, outcomes[index]) for index in good]
    assert [caption.text for caption in captions] == texts
    assert all(caption.output_tokens and caption.prompt_tokens > 500 for caption in captions)
    assert len(set(texts)) == len(good)


@pytest.mark.engine
def test_calls_at_once_answer_as_one_call(stage: CaptionStage) -> None:
    rows = [make_row(str(seed), frames=moving_noise(seed)) for seed in range(12)]
    alone = stage(rows)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(stage, [rows[start::4] for start in range(4)]))
    assert [together[index % 4][index // 4] for index in range(12)] == alone
    assert stage(rows) == alone


@pytest.mark.engine
def test_a_caption_says_whether_the_output_limit_cut_it(stage: CaptionStage) -> None:
    row = make_row(frames=moving_noise(1))
    (whole,) = stage([row])
    assert isinstance(whole, Caption)
    words = whole.text.split()
    (short,) = with_sampling(stage, SamplingConfig(max_tokens=3))([row])
    assert isinstance(short, Caption)
    assert (short.finish_reason, short.truncated, short.output_tokens) == ("length", True, 3)
    assert short.text.split() == words[:3]
    (stopped,) = with_sampling(stage, SamplingConfig(stop=(f" {words[2]}",)))([row])
    assert isinstance(stopped, Caption)
    assert (stopped.finish_reason, stopped.truncated) == ("stop", False)
    assert stopped.text.split() == words[:2]


@pytest.mark.engine
def test_read_only_frames_raise_no_warning(qwen2_5_vl: CaptionStage, recwarn: pytest.WarningsRecorder) -> None:
    frames = moving_noise(1)
    frames.pixels.flags.writeable = False
    (caption,) = qwen2_5_vl([make_row(frames=frames)])
    assert isinstance(caption, Caption)
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_a_model_that_sees_nothing_is_refused(tiny_models: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="Qwen3-VL models"):
        CaptionStage(CaptionConfig(engine=EngineConfig(model=str(tiny_models("qwen2_audio")))))


def test_only_what_can_change_a_caption_enters_the_fingerprint() -> None:
    config = CaptionConfig(engine=EngineConfig(model="m"))
    fields = fingerprint_fields(config)
    for change in (
        {"prompt": "What?"},
        {"system_prompt": ""},
        {"chat_template": "{{ messages }}"},
        {"sampling": SamplingConfig(max_tokens=9)},
        {"engine": EngineConfig(model="m", dtype="float16")},
    ):
        assert fingerprint_fields(dataclasses.replace(config, **cast(Any, change))) != fields
    faster = dataclasses.replace(config.pool, batch_rows=99)
    assert fingerprint_fields(dataclasses.replace(config, pool=faster, request_timeout_seconds=1.0)) == fields


@pytest.mark.parametrize("change", [{"prompt": " "}, {"request_timeout_seconds": 0.0}])
def test_a_config_that_cannot_work_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="caption"):
        CaptionConfig(engine=EngineConfig(model="m"), **change)


def video_features(stage: CaptionStage, frames: Frames) -> Mapping[str, Any]:
    """What vLLM hands the model of the video, after its processor."""
    rendered = cast(VllmEngine, stage._engine).render(stage.request(frames))
    return cast(Mapping[str, Any], rendered["mm_kwargs"]["video"][0])


def seconds_per_step(stage: CaptionStage, frames: Frames) -> float:
    """Qwen2.5-VL's `second_per_grid_ts`."""
    return float(video_features(stage, frames)["second_per_grid_ts"].data)


def times_in_prompt(stage: CaptionStage, frames: Frames) -> list[str]:
    """The times that Qwen3-VL finds between the frames."""
    from transformers import AutoTokenizer

    rendered = cast(VllmEngine, stage._engine).render(stage.request(frames))
    text = AutoTokenizer.from_pretrained(stage._config.engine.model).decode(rendered["prompt_token_ids"])
    return re.findall(r"<([\d.]+) seconds>", text)
