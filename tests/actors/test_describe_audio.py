"""Descriptions of sound: windows and silence with a stand-in engine that counts, words and failures on the real one."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch

from actors.describe_audio import DescribeAudioConfig, DescribeAudioStage, fingerprint_fields
from actors.vllm_config import EngineConfig, SamplingConfig
from actors.vllm_engine import EngineRequest, Generated
from records.errors import Failure, FailureKind, FatalError, UserError
from records.media import AUDIO_RATE_HZ, Audio
from records.outcomes import AudioDescription, Note
from tests.actors.clips import join, silence, tone
from tests.actors.conftest import ANSWER_TOKENS
from tests.actors.rows import make_row


class CountingEngine:
    """Answers each request with its number and length, and fails those of a given number."""

    def __init__(self, *, failing: frozenset[int] = frozenset(), dead: bool = False) -> None:
        self.calls: list[Sequence[EngineRequest]] = []
        self.failing = failing
        self.dead = dead
        self.closed = 0

    def generate_many(
        self, requests: Sequence[EngineRequest], sampling: SamplingConfig, timeout_seconds: float
    ) -> list[Generated | Failure]:
        if self.dead:
            raise FatalError("the engine died")
        self.calls.append(requests)
        return [self._answer(number, request) for number, request in enumerate(requests)]

    def close(self) -> None:
        self.closed += 1

    def _answer(self, number: int, request: EngineRequest) -> Generated | Failure:
        if number in self.failing:
            return Failure(stage="describe_audio", kind=FailureKind.TIMEOUT, message="no answer")
        reason = "length" if number == 1 else "stop"
        seconds = len(heard(request)) / AUDIO_RATE_HZ
        return Generated(text=f" {seconds:g} s ", finish_reason=reason, prompt_tokens=10, token_ids=(1, 2, 3))


def heard(request: EngineRequest) -> npt.NDArray[np.float32]:
    """The samples that a request carries."""
    ((samples, rate),) = cast(Any, request.media["audio"])
    assert rate == AUDIO_RATE_HZ
    return cast(npt.NDArray[np.float32], samples)


@pytest.fixture
def make_stage(tiny_models: Callable[[str], Path]) -> Callable[..., DescribeAudioStage]:
    """A stage on a stand-in engine, for any further field of the config."""
    base = DescribeAudioConfig(engine=EngineConfig(model=str(tiny_models("qwen2_audio"))))
    return lambda engine, **fields: DescribeAudioStage(dataclasses.replace(base, **fields), engine=engine)


def describe(stage: DescribeAudioStage, *clips: Audio | None) -> list[AudioDescription | Failure]:
    """The outcomes of clips."""
    return stage([make_row(str(index), audio=audio) for index, audio in enumerate(clips)])


def test_long_sound_is_described_in_windows_with_their_times(make_stage: Callable[..., DescribeAudioStage]) -> None:
    engine = CountingEngine()
    outcomes = describe(make_stage(engine), tone(72.5), tone(12), tone(30.4))
    assert outcomes == [
        AudioDescription(
            text="[0:00-0:30] 30 s [0:30-1:00] 30 s [1:00-1:13] 12.5 s",
            windows=3,
            truncated_windows=1,
            prompt_tokens=30,
            output_tokens=9,
        ),
        AudioDescription(text="12 s", windows=1, prompt_tokens=10, output_tokens=3),
        # The last 0.4 s are shorter than a window may be.
        AudioDescription(text="30 s", windows=1, prompt_tokens=10, output_tokens=3),
    ]
    assert [len(call) for call in engine.calls] == [5], "the windows of all rows go in one call"


def test_windows_cover_the_clip_without_gap_or_overlap(make_stage: Callable[..., DescribeAudioStage]) -> None:
    audio = Audio(samples=np.arange(1, 50_000, dtype=np.int64).astype(np.int16))
    windows = list(make_stage(CountingEngine(), window_seconds=1.0).windows(audio))
    assert np.array_equal(np.concatenate([window.audio.samples for window in windows]), audio.samples[:48_000])
    assert [window.label for window in windows] == ["[0:00-0:01]", "[0:01-0:02]", "[0:02-0:03]"]


def test_an_hour_has_its_hours(make_stage: Callable[..., DescribeAudioStage]) -> None:
    audio = silence(3_612)
    *_, last = make_stage(CountingEngine()).windows(audio)
    assert last.label == "[1:00:00-1:00:12]"


def test_silence_and_no_sound_ask_no_engine(make_stage: Callable[..., DescribeAudioStage]) -> None:
    engine = CountingEngine()
    hiss = tone(5, level=10 ** (-61 / 20) * 2**0.5)
    outcomes = describe(make_stage(engine), None, silence(5), hiss, silence(0), silence(65))
    notes = [Note.NO_AUDIO, Note.SILENT, Note.SILENT, Note.NO_AUDIO, Note.SILENT]
    assert outcomes == [AudioDescription(text="", note=note) for note in notes]
    assert engine.calls == []


def test_the_threshold_of_silence(make_stage: Callable[..., DescribeAudioStage]) -> None:
    audio = tone(5, level=10 ** (-30 / 20) * 2**0.5)
    (quiet,) = describe(make_stage(CountingEngine(), silence_dbfs=-29.5), audio)
    (loud,) = describe(make_stage(CountingEngine(), silence_dbfs=-30.5), audio)
    assert isinstance(quiet, AudioDescription)
    assert isinstance(loud, AudioDescription)
    assert (quiet.note, loud.note) == (Note.SILENT, Note.NONE)


def test_silent_windows_are_skipped_and_the_others_keep_their_times(
    make_stage: Callable[..., DescribeAudioStage],
) -> None:
    engine = CountingEngine()
    (outcome,) = describe(make_stage(engine), join(silence(30), tone(30), silence(30)))
    assert outcome == AudioDescription(text="[0:30-1:00] 30 s", windows=1, prompt_tokens=10, output_tokens=3)


def test_a_failed_window_fails_its_row_alone(make_stage: Callable[..., DescribeAudioStage]) -> None:
    engine = CountingEngine(failing=frozenset({2}))
    first, second, third = describe(make_stage(engine), tone(5), tone(80), tone(7))
    assert isinstance(second, Failure)
    assert second.kind == FailureKind.TIMEOUT
    assert [cast(AudioDescription, outcome).text for outcome in (first, third)] == ["5 s", "7 s"]


def test_a_dead_engine_raises_and_close_reaches_it(make_stage: Callable[..., DescribeAudioStage]) -> None:
    engine = CountingEngine(dead=True)
    stage = make_stage(engine)
    with pytest.raises(FatalError):
        describe(stage, tone(5))
    stage.close()
    assert engine.closed == 1


def test_a_model_that_hears_nothing_is_refused(tiny_models: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="takes Qwen2-Audio models"):
        DescribeAudioStage(DescribeAudioConfig(engine=EngineConfig(model=str(tiny_models("qwen2_5_vl")))))


@pytest.mark.parametrize(
    "change",
    [{"window_seconds": 31.0}, {"min_window_seconds": 0.0}, {"prompt": ""}, {"request_timeout_seconds": -1.0}],
)
def test_a_config_that_cannot_work_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="describe_audio"):
        DescribeAudioConfig(engine=EngineConfig(model="m"), **change)


def test_only_what_can_change_a_description_enters_the_fingerprint() -> None:
    config = DescribeAudioConfig(engine=EngineConfig(model="m"))
    changes: list[dict[str, Any]] = [
        {"prompt": "What?"},
        {"window_seconds": 10.0},
        {"min_window_seconds": 0.5},
        {"silence_dbfs": -50.0},
        {"sampling": SamplingConfig(temperature=1.0)},
    ]
    prints = [fingerprint_fields(dataclasses.replace(config, **change)) for change in changes]
    assert all(fields != fingerprint_fields(config) for fields in prints)
    assert fingerprint_fields(dataclasses.replace(config, request_timeout_seconds=1.0)) == fingerprint_fields(config)


@pytest.mark.engine
def test_tokens_equal_transformers_greedy(qwen2_audio: DescribeAudioStage) -> None:
    from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

    clips = [tone(3), tone(30, hertz=880), tone(1.3, hertz=110, level=0.9)]
    config = qwen2_audio._config
    processor = AutoProcessor.from_pretrained(config.engine.model)
    model = Qwen2AudioForConditionalGeneration.from_pretrained(config.engine.model, dtype=torch.float32).eval()
    system = {"role": "system", "content": config.system_prompt}
    user = {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": config.prompt}]}
    prompt = processor.apply_chat_template([system, user], add_generation_prompt=True, tokenize=False)
    expected = []
    for audio in clips:
        inputs = processor(
            text=[prompt], audio=[audio.to_float()], sampling_rate=AUDIO_RATE_HZ, return_tensors="pt", padding=True
        )
        answer = model.generate(**inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)
        expected.append(tuple(answer[0, inputs["input_ids"].shape[1] :].tolist()))
    requests = [qwen2_audio.request(audio) for audio in clips]
    answers = qwen2_audio._engine.generate_many(requests, SamplingConfig(max_tokens=ANSWER_TOKENS), 300.0)
    assert [cast(Generated, answer).token_ids for answer in answers] == expected
    assert len(set(expected)) == len(clips), "the sound must decide the words"


@pytest.mark.engine
def test_rows_keep_their_order_and_repeat(qwen2_audio: DescribeAudioStage) -> None:
    clips = (tone(3), None, tone(40, hertz=880), silence(4), tone(0.01, hertz=110, level=0.9))
    outcomes = describe(qwen2_audio, *clips)
    descriptions = [cast(AudioDescription, outcome) for outcome in outcomes]
    assert [outcome.windows for outcome in descriptions] == [1, 0, 2, 0, 1]
    assert descriptions[2].text.startswith("[0:00-0:30] ")
    assert "[0:30-0:40] " in descriptions[2].text
    assert describe(qwen2_audio, tone(3)) == [descriptions[0]]
    assert describe(qwen2_audio, *clips) == outcomes
