"""What faster-whisper is told, against its own pipelines' defaults, and what it is never told."""

import dataclasses
import inspect
import math
from typing import Any

import pytest
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES

from actors import transcribe_config
from actors.stage import PoolConfig
from actors.transcribe_config import (
    TranscribeConfig,
    decoding_options,
    fingerprint_fields,
    load_whisper,
    vad_options,
)
from tests.conftest import TinyModels
from tests.sounds import silence

NO_OUTPUT = {"model", "revision", "device", "batch_chunks", "pool"}
DECODING: dict[str, Any] = {
    "beam_size": 2, "best_of": 3, "patience": 1.5, "length_penalty": 0.5, "repetition_penalty": 1.1,
    "no_repeat_ngram_size": 4, "log_prob_threshold": -2.0, "no_speech_threshold": None,
    "compression_ratio_threshold": 3.0,
}  # fmt: skip
"""Each unlike its default, by the name that both sides use."""


@pytest.fixture(scope="module")
def whisper(tiny_models: TinyModels) -> WhisperModel:
    return WhisperModel(str(tiny_models("whisper")), device="cpu", compute_type="float32", cpu_threads=1)


@pytest.mark.parametrize("changed", [{}, DECODING, {"task": "translate"}], ids=["defaults", "all changed", "translate"])
def test_decoding_options_are_those_of_the_batched_pipeline(whisper: WhisperModel, changed: dict[str, Any]) -> None:
    _, info = BatchedInferencePipeline(whisper).transcribe(
        silence(1.0), language="en", vad_filter=False, clip_timestamps=[{"start": 0.0, "end": 1.0}], **changed
    )
    theirs = info.transcription_options
    ours = decoding_options(TranscribeConfig(**changed), whisper)
    assert ours.temperatures == list(TranscribeConfig().temperatures)
    # Punctuation is for the times of single words, which nobody asks for.
    told = {name: getattr(theirs, name) for name in ("clip_timestamps", "prepend_punctuations", "append_punctuations")}
    assert not ours.word_timestamps
    assert dataclasses.replace(ours, temperatures=[0.0], **told) == theirs


def test_defaults_of_the_second_decoding_are_faster_whispers() -> None:
    theirs = inspect.signature(WhisperModel.transcribe).parameters
    config = TranscribeConfig()
    assert list(config.temperatures) == theirs["temperature"].default
    for name in DECODING:
        assert getattr(config, name) == theirs[name].default, name


def test_the_filter_of_silence_is_that_of_the_batched_pipeline(whisper: WhisperModel) -> None:
    _, info = BatchedInferencePipeline(whisper).transcribe(silence(1.0), language="en")
    assert vad_options(TranscribeConfig(), whisper.feature_extractor.chunk_length) == info.vad_options


def test_each_setting_of_the_filter_reaches_its_option() -> None:
    config = TranscribeConfig(vad_threshold=0.25, vad_min_speech_ms=11, vad_min_silence_ms=22, vad_speech_pad_ms=33)
    options = vad_options(config, 12.5)
    assert (options.threshold, options.max_speech_duration_s) == (0.25, 12.5)
    assert (options.min_speech_duration_ms, options.min_silence_duration_ms, options.speech_pad_ms) == (11, 22, 33)


def test_every_other_field_enters_the_fingerprint_as_it_is() -> None:
    config = TranscribeConfig(**DECODING, languages=("de", "en"))
    fields = fingerprint_fields(config)
    assert {field.name for field in dataclasses.fields(config)} - fields.keys() == NO_OUTPUT
    assert fields == {name: getattr(config, name) for name in fields}


def test_a_model_is_loaded_as_the_config_says(tiny_models: TinyModels) -> None:
    config = TranscribeConfig(model=str(tiny_models("whisper")), device="cpu", compute_type="int8")
    model = load_whisper(config).model
    assert (model.device, model.compute_type.partition("_")[0]) == ("cpu", "int8")


@pytest.mark.parametrize(("cpus", "threads"), [(0.0, 1), (0.4, 1), (1.0, 1), (2.6, 3), (8.0, 8)])
def test_threads_follow_the_cores_of_a_worker(monkeypatch: pytest.MonkeyPatch, cpus: float, threads: int) -> None:
    # CTranslate2 does not tell how many it was given.
    monkeypatch.setattr(transcribe_config, "WhisperModel", lambda *model, **options: (*model, options))
    config = TranscribeConfig(model="m", revision="c", device="cpu", pool=PoolConfig(num_cpus=cpus))
    options = {"revision": "c", "device": "cpu", "compute_type": "float16", "cpu_threads": threads}
    assert load_whisper(config) == ("m", options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"languages": ("en", "xx", "aa")}, "transcribe: Whisper knows no language aa, xx"),
        ({"temperatures": ()}, "transcribe: temperatures start at 0 and rise, unlike ()"),
        ({"temperatures": (0.0, 0.4, 0.2)}, "transcribe: temperatures start at 0 and rise, unlike (0.0, 0.4, 0.2)"),
        ({"temperatures": (0.0, math.nan)}, "transcribe: temperatures start at 0 and rise, unlike (0.0, nan)"),
        ({"temperatures": (0.0, math.inf)}, "transcribe: temperatures start at 0 and rise, unlike (0.0, inf)"),
        ({"best_of": 0}, "transcribe: beam_size, best_of and batch_chunks must be at least 1"),
        ({"batch_chunks": 0}, "transcribe: beam_size, best_of and batch_chunks must be at least 1"),
        ({"no_repeat_ngram_size": -1}, "transcribe: no_repeat_ngram_size must not be negative"),
        ({"length_penalty": math.inf}, "transcribe: length_penalty must be finite, not inf"),
        ({"log_prob_threshold": -math.inf}, "transcribe: log_prob_threshold must be finite, not -inf"),
        ({"compression_ratio_threshold": math.nan}, "transcribe: compression_ratio_threshold must be finite, not nan"),
        ({"no_speech_threshold": math.nan}, "transcribe: no_speech_threshold must be finite, not nan"),
        ({"vad_threshold": 0.0}, "transcribe: vad_threshold lies between 0 and 1, unlike 0.0"),
        ({"vad_threshold": math.nan}, "transcribe: vad_threshold lies between 0 and 1, unlike nan"),
        ({"vad_min_speech_ms": -1}, "transcribe: times of the voice-activity filter must not be negative"),
        ({"vad_min_silence_ms": -1}, "transcribe: times of the voice-activity filter must not be negative"),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_named_in_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        TranscribeConfig(**wrong)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("name", ["patience", "repetition_penalty"])
def test_what_the_engine_would_refuse_clip_by_clip_is_refused_at_once(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"patience and repetition_penalty must be finite and above 0$"):
        TranscribeConfig(**{name: value})  # type: ignore[arg-type]  # one of the two


@pytest.mark.parametrize("name", ["patience", "repetition_penalty"])
def test_the_engine_does_refuse_it(whisper: WhisperModel, name: str) -> None:
    segments, _ = whisper.transcribe(silence(1.0), language="en", **{name: 0.0})
    with pytest.raises(ValueError, match="must be > 0"):
        next(iter(segments))


@pytest.mark.parametrize(
    "least",
    [
        {"beam_size": 1, "best_of": 1, "batch_chunks": 1, "no_repeat_ngram_size": 0},
        {"temperatures": (0.0,)},
        {"temperatures": (0.0, 0.2, 0.2)},
        {"patience": 0.01, "repetition_penalty": 0.01, "length_penalty": -1.0},
        {"vad_min_speech_ms": 0, "vad_min_silence_ms": 0, "vad_speech_pad_ms": 0},
        {"languages": tuple(_LANGUAGE_CODES)},
    ],
)
def test_what_is_just_within_the_bounds_is_taken(least: dict[str, Any]) -> None:
    config = TranscribeConfig(**least)
    assert {name: getattr(config, name) for name in least} == least
