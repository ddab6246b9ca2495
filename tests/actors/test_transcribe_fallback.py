"""What becomes of chunks that Whisper is unsure of, with the engine's answers scripted and all else real."""

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import ctranslate2
import pytest
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer

from actors import transcribe_config
from actors.cuda_12 import CUBLAS
from actors.transcribe import TranscribeConfig, TranscribeStage
from records.errors import Failure, FailureKind, FatalError
from records.items import Row
from records.outcomes import Note, Transcript
from tests.actors.rows import make_row
from tests.conftest import TinyModels
from tests.sounds import babble, silence, to_audio, tone

CONFIG = TranscribeConfig(device="cpu", compute_type="float32", languages=("en",), temperatures=(0.0, 0.4, 0.8))
REPETITIVE = "na" * 60


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the engine says of one chunk."""

    text: str = "good words"
    avg_logprob: float = -0.5
    no_speech_prob: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """The part of CTranslate2's result that is read."""

    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float


class ScriptedEngine:
    """The real engine, whose decoding gives the next scripted answers."""

    def __init__(self, whisper: WhisperModel, script: Sequence[Answer | Exception]) -> None:
        self._real: Any = whisper.model
        self._tokenizer = Tokenizer(whisper.hf_tokenizer, True, task="transcribe", language="en")
        self._script = list(script)
        self.calls: list[tuple[int, float]] = []
        self.is_multilingual = True
        self.device = "cpu"
        self.dead = False

    def encode(self, features: object, to_cpu: bool) -> object:
        if self.dead:
            raise RuntimeError("CUDA failed with error unspecified launch failure")
        return self._real.encode(features, to_cpu=to_cpu)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - stands for any attribute of an untyped library
        return getattr(self._real, name)

    def generate(
        self, features: object, prompts: list[list[int]], sampling_temperature: float = 0.0, **options: object
    ) -> list[Result]:
        self.calls.append((len(prompts), sampling_temperature))
        answers = [self._script.pop(0) for _ in prompts]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return [self._result(answer) for answer in answers if isinstance(answer, Answer)]

    def _result(self, answer: Answer) -> Result:
        tokens = self._tokenizer.encode(answer.text)
        score = answer.avg_logprob * (len(tokens) + 1) / len(tokens)
        return Result(sequences_ids=[tokens], scores=[score], no_speech_prob=answer.no_speech_prob)


@pytest.fixture(scope="module")
def whisper(tiny_models: TinyModels) -> WhisperModel:
    return WhisperModel(str(tiny_models("whisper")), device="cpu", compute_type="float32", cpu_threads=1)


def run(
    whisper: WhisperModel, script: Sequence[Answer | Exception], config: TranscribeConfig = CONFIG, clips: int = 1
) -> tuple[list[Transcript | Failure], ScriptedEngine]:
    """Clips of one chunk each through the stage."""
    engine = ScriptedEngine(whisper, script)
    model = copy.copy(whisper)
    model.model = engine
    return TranscribeStage(config, model=model)(speaking_rows(clips)), engine


def speaking_rows(clips: int) -> list[Row]:
    """Clips that hold one chunk of speech each, by the real filter."""
    return [make_row(str(seed), audio=to_audio(silence(2), babble(6, seed))) for seed in range(clips)]


def texts(outcomes: Sequence[Transcript | Failure]) -> list[str]:
    return [outcome.text if isinstance(outcome, Transcript) else str(outcome.kind) for outcome in outcomes]


def test_a_chunk_that_passes_is_decoded_once(whisper: WhisperModel) -> None:
    outcomes, engine = run(whisper, [Answer(text="one"), Answer(text="two")], clips=2)
    assert texts(outcomes) == ["one", "two"]
    assert engine.calls == [(2, 0.0)]


@pytest.mark.parametrize("bad", [Answer(avg_logprob=-1.2), Answer(text=REPETITIVE)], ids=["unsure", "repetitive"])
def test_a_chunk_that_fails_a_threshold_is_decoded_again_alone(whisper: WhisperModel, bad: Answer) -> None:
    script = [Answer(text="one"), bad, Answer(text="three"), bad, bad, Answer(text="two")]
    outcomes, engine = run(whisper, script, clips=3)
    assert texts(outcomes) == ["one", "two", "three"]
    assert engine.calls == [(3, 0.0), (1, 0.0), (1, 0.4), (1, 0.8)]


def test_where_all_temperatures_fail_the_surest_that_is_not_repetitive_stays(whisper: WhisperModel) -> None:
    first = Answer(text=REPETITIVE, avg_logprob=-0.1)
    script = [first, first, Answer(text="surer", avg_logprob=-1.5), Answer(text="less sure", avg_logprob=-3)]
    assert texts(run(whisper, script)[0]) == ["surer"]


def test_without_temperatures_above_zero_nothing_is_decoded_again(whisper: WhisperModel) -> None:
    config = replace(CONFIG, temperatures=(0.0,))
    outcomes, engine = run(whisper, [Answer(text="unsure", avg_logprob=-5)], config)
    assert texts(outcomes) == ["unsure"]
    assert engine.calls == [(1, 0.0)]


def test_an_unsure_chunk_without_speech_is_dropped_and_not_decoded_again(whisper: WhisperModel) -> None:
    outcomes, engine = run(whisper, [Answer(text="thanks for watching", avg_logprob=-1.2, no_speech_prob=0.7)])
    (outcome,) = outcomes
    assert isinstance(outcome, Transcript)
    assert (outcome.text, outcome.segments, outcome.note, outcome.language) == ("", (), Note.NO_SPEECH, "")
    assert outcome.speech_seconds > 1
    assert engine.calls == [(1, 0.0)]


def test_a_sure_chunk_stays_whatever_its_no_speech_probability(whisper: WhisperModel) -> None:
    assert texts(run(whisper, [Answer(text="sure", avg_logprob=-0.9, no_speech_prob=0.9)])[0]) == ["sure"]


def test_a_chunk_that_turns_out_empty_when_decoded_again_is_dropped(whisper: WhisperModel) -> None:
    bad = Answer(avg_logprob=-1.2)
    outcomes, _ = run(whisper, [bad, bad, Answer(avg_logprob=-1.3, no_speech_prob=0.8)])
    assert texts(outcomes) == [""]


def test_no_threshold_drops_nothing(whisper: WhisperModel) -> None:
    config = replace(CONFIG, no_speech_threshold=None, log_prob_threshold=None, compression_ratio_threshold=None)
    answer = Answer(text=REPETITIVE, avg_logprob=-9, no_speech_prob=1.0)
    outcomes, engine = run(whisper, [answer], config)
    assert texts(outcomes) == [REPETITIVE]
    assert len(engine.calls) == 1


def test_a_real_second_decoding_that_is_worse_changes_nothing(whisper: WhisperModel) -> None:
    """At temperature 1 the tiny model's words are less likely than those of its beam search, so the first stay."""
    plain = replace(CONFIG, temperatures=(0.0,), no_speech_threshold=None)
    again = replace(plain, temperatures=(0.0, 1.0), log_prob_threshold=-0.01, compression_ratio_threshold=None)
    wanted = texts(TranscribeStage(plain, model=whisper)(speaking_rows(3)))
    assert texts(TranscribeStage(again, model=whisper)(speaking_rows(3))) == wanted
    assert len(set(wanted)) == 3


def test_a_clip_that_the_engine_cannot_take_fails_alone(whisper: WhisperModel) -> None:
    broken = ValueError("bad\nchunk")
    script: list[Answer | Exception] = [Answer(), broken, Answer(), Answer(text="one"), broken, Answer(text="three")]
    outcomes, _ = run(whisper, script, clips=3)
    assert texts(outcomes) == ["one", "engine_error", "three"]
    failure = outcomes[1]
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.kind, failure.message) == (
        "transcribe",
        FailureKind.ENGINE_ERROR,
        "ValueError: bad",
    )


def test_a_second_decoding_that_raises_fails_its_clip(whisper: WhisperModel) -> None:
    script: list[Answer | Exception] = [Answer(avg_logprob=-2), Answer(text="two"), MemoryError("full")]
    assert texts(run(whisper, script, clips=2)[0]) == ["out_of_memory", "two"]


def test_an_engine_that_fails_on_silence_too_is_dead(whisper: WhisperModel) -> None:
    engine = ScriptedEngine(whisper, [])
    engine.dead = True
    model = copy.copy(whisper)
    model.model = engine
    with pytest.raises(FatalError, match="launch failure"):
        TranscribeStage(CONFIG, model=model)(speaking_rows(1))


def test_a_gpu_that_cannot_run_the_model_is_told_at_the_start(whisper: WhisperModel) -> None:
    model = copy.copy(whisper)
    model.model = engine = ScriptedEngine(whisper, [])
    engine.device, engine.dead = "cuda", True
    with pytest.raises(FatalError, match="does not run on this GPU: RuntimeError: CUDA failed"):
        TranscribeStage(CONFIG, model=model)
    engine.dead = False
    TranscribeStage(CONFIG, model=model)


@pytest.mark.parametrize("device", ["cuda", "auto", "cpu"])
def test_cuda_12_is_loaded_before_the_model_and_for_a_gpu_alone(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch, device: Literal["cuda", "auto", "cpu"]
) -> None:
    asked: list[Sequence[str]] = []
    monkeypatch.setattr(transcribe_config, "preload", lambda names, folders: asked.append(names))
    config = replace(CONFIG, model=str(tiny_models("whisper")), device=device)
    gpus = ctranslate2.get_cuda_device_count()
    with pytest.raises((ValueError, RuntimeError)) if device == "cuda" and not gpus else contextlib.nullcontext():
        transcribe_config.load_whisper(config)
    assert asked == ([CUBLAS] if device == "cuda" or (device == "auto" and gpus) else [])


def test_clips_without_sound_or_speech_say_so(whisper: WhisperModel) -> None:
    clips = (None, to_audio(silence(0)), to_audio(silence(5)), to_audio(tone(5)), to_audio(silence(0.01) + 0.5))
    outcomes = TranscribeStage(CONFIG, model=whisper)([make_row(audio=clip) for clip in clips])
    notes = [outcome.note for outcome in outcomes if isinstance(outcome, Transcript)]
    assert notes == [Note.NO_AUDIO, Note.NO_AUDIO, Note.SILENT, Note.NO_SPEECH, Note.NO_SPEECH]


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "tpu"},
        {"task": "summarise"},
        {"languages": ("xx",)},
        {"temperatures": ()},
        {"temperatures": (0.2, 0.4)},
        {"beam_size": 0},
        {"vad_threshold": 1.0},
        {"vad_speech_pad_ms": -1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_config_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="transcribe"):
        TranscribeConfig(**wrong)  # type: ignore[arg-type]  # wrong on purpose
