"""Whisper's steps one by one, on a tiny model: each gives what faster-whisper makes of the same chunk alone."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.vad import SpeechTimestampsMap

from actors.speech import Chunk
from actors.transcribe_config import TranscribeConfig, decoding_options
from actors.whisper_batch import Decoded, Features, WhisperBatch
from records.media import AUDIO_RATE_HZ, Audio
from tests.conftest import TinyModels
from tests.sounds import babble, noise, silence, to_audio

CONFIG = TranscribeConfig(device="cpu", compute_type="float32", beam_size=2, temperatures=(0.0, 0.7))
SECOND = AUDIO_RATE_HZ
CHANGED: dict[str, Any] = {
    "beam_size": 3, "patience": 0.5, "length_penalty": 0.5, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2,
}  # fmt: skip
LANGUAGES = ("en", "de", "zh")
Make = Callable[[TranscribeConfig], WhisperBatch]


@pytest.fixture(scope="module")
def whisper(tiny_models: TinyModels) -> WhisperModel:
    return WhisperModel(str(tiny_models("whisper")), device="cpu", compute_type="float32", cpu_threads=1)


@pytest.fixture(scope="module")
def make(whisper: WhisperModel) -> Make:
    return lambda config: WhisperBatch(whisper, decoding_options(config, whisper), config.task)


@pytest.fixture(scope="module")
def batch(make: Make) -> WhisperBatch:
    return make(CONFIG)


@pytest.fixture(scope="module")
def clips() -> list[Audio]:
    return [to_audio(babble(seconds, seed)) for seed, seconds in enumerate((2.0, 5.0, 3.5))]


def chunk(*seconds: tuple[float, float], start: float = 0.0) -> Chunk:
    spans = tuple((round(begin * SECOND), round(end * SECOND)) for begin, end in seconds)
    return Chunk(clip=0, spans=spans, start=round(start * SECOND))


def whole(audio: Audio) -> Chunk:
    return chunk((0.0, audio.duration_seconds))


def test_the_model_says_what_it_is(batch: WhisperBatch) -> None:
    assert batch.window_samples == 30 * SECOND
    assert (batch.is_multilingual, batch.on_gpu) == (True, False)


def test_features_are_those_of_the_stretches_joined_without_padding(
    batch: WhisperBatch, whisper: WhisperModel, clips: list[Audio]
) -> None:
    sound = clips[1].to_float()
    joined = np.concatenate([sound[SECOND : 2 * SECOND], sound[3 * SECOND : 5 * SECOND]])
    features = batch.features(clips[1], chunk((1, 2), (3, 5)))
    np.testing.assert_array_equal(features, whisper.feature_extractor(joined)[..., :-1])
    assert features.shape == (80, 300)


def test_a_language_is_told_as_faster_whisper_tells_it(
    batch: WhisperBatch, whisper: WhisperModel, clips: list[Audio]
) -> None:
    """Of clips below one window and over it."""
    long = to_audio(*[babble(5, 3)] * 8)
    cases = [(clips[0], [whole(clips[0])]), (clips[1], [chunk((0, 2)), chunk((3, 5))])]
    cases.append((long, [chunk((0, 20)), chunk((20, 40))]))
    features = [batch.language_features(audio, chunks) for audio, chunks in cases]
    wanted = []
    for (audio, chunks), made in zip(cases, features, strict=True):
        assert made.shape == (80, 3000)
        parts = [batch.features(audio, one) for one in chunks] + [np.full((80, 1), -1.5, np.float32)]
        wanted.append(whisper.detect_language(features=np.concatenate(parts, axis=1))[:2])
    got = batch.languages(features, [])
    assert [code for code, _ in got] == [code for code, _ in wanted]
    assert [probability for _, probability in got] == pytest.approx([one for _, one in wanted], abs=1e-5)


def test_what_a_language_is_told_from_ends_with_the_window(whisper: WhisperModel) -> None:
    made: list[Chunk] = []

    class Watched(WhisperBatch):
        def features(self, audio: Audio, chunk: Chunk) -> Features:
            made.append(chunk)
            return super().features(audio, chunk)

    chunks = [chunk((0, 15)), chunk((15, 30)), chunk((30, 35))]
    watched = Watched(whisper, decoding_options(CONFIG, whisper), CONFIG.task)
    watched.language_features(to_audio(noise(35)), chunks)
    assert made == chunks[:2]


def test_the_likeliest_of_the_allowed_languages_keeps_its_probability_among_all(
    batch: WhisperBatch, whisper: WhisperModel, clips: list[Audio]
) -> None:
    features = [batch.language_features(clip, [whole(clip)]) for clip in clips]
    for made, (code, probability) in zip(features, batch.languages(features, LANGUAGES), strict=True):
        among_all = dict(whisper.detect_language(features=made)[2])
        assert code == max(LANGUAGES, key=lambda one: among_all[one])
        assert probability == pytest.approx(among_all[code], abs=1e-5)


@pytest.mark.parametrize("changed", [{}, CHANGED, {"task": "translate"}], ids=["defaults", "all changed", "translate"])
def test_chunks_of_several_languages_in_one_call_equal_each_alone(
    make: Make, whisper: WhisperModel, clips: list[Audio], changed: dict[str, Any]
) -> None:
    config = replace(CONFIG, **changed)
    batch, options = make(config), decoding_options(config, whisper)
    features = [batch.features(clip, whole(clip)) for clip in clips]
    pipeline = BatchedInferencePipeline(whisper)
    for made, language, got in zip(features, LANGUAGES, batch.decode(features, LANGUAGES), strict=True):
        tokenizer = Tokenizer(whisper.hf_tokenizer, True, task=config.task, language=language)
        _, (wanted,) = pipeline.generate_segment_batched(pad_or_trim(made)[None], tokenizer, options)
        assert list(got.tokens) == wanted["tokens"]
        assert got.avg_logprob == pytest.approx(wanted["avg_logprob"], abs=1e-5)
        assert got.no_speech_prob == pytest.approx(wanted["no_speech_prob"], abs=1e-6)


def test_decoding_again_without_need_gives_the_same(make: Make, clips: list[Audio]) -> None:
    batch = make(replace(CONFIG, length_penalty=0.5, log_prob_threshold=None, compression_ratio_threshold=None))
    features = batch.features(clips[0], whole(clips[0]))
    (first,), again = batch.decode([features], ["de"]), batch.decode_again(features, "de")
    assert (again.tokens, again.no_speech_prob) == (first.tokens, first.no_speech_prob)
    assert again.avg_logprob == pytest.approx(first.avg_logprob, abs=1e-6)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The part of CTranslate2's result that is read."""

    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float


class Scripted:
    """An engine that says the same of every chunk, and remembers what it was given."""

    device = "cpu"

    def __init__(self, result: Result, *, is_multilingual: bool = True) -> None:
        self._result = result
        self.is_multilingual = is_multilingual
        self.prompts: list[list[int]] = []
        self.options: list[dict[str, object]] = []
        self.encoded: list[Any] = []

    def encode(self, features: object, to_cpu: bool) -> None:
        self.encoded.append(np.array(features))

    def generate(self, features: object, prompts: list[list[int]], **options: object) -> list[Result]:
        self.prompts += prompts
        self.options.append(options)
        return [self._result for _ in prompts]


def on(engine: Scripted, whisper: WhisperModel, config: TranscribeConfig = CONFIG) -> tuple[WhisperBatch, WhisperModel]:
    """The model on the scripted engine, wrapped and as it is."""
    model = copy.copy(whisper)
    model.model = engine
    return WhisperBatch(model, decoding_options(config, model), config.task), model


NOTHING = Result(sequences_ids=[[]], scores=[-0.5], no_speech_prob=0.25)


@pytest.mark.parametrize(
    ("task", "is_multilingual", "prompt"),
    [
        ("transcribe", True, "<|startoftranscript|> <|de|> <|transcribe|> <|notimestamps|>"),
        ("translate", True, "<|startoftranscript|> <|de|> <|translate|> <|notimestamps|>"),
        ("transcribe", False, "<|startoftranscript|> <|notimestamps|>"),
    ],
)
def test_the_prompt_names_language_and_task_where_the_model_knows_them(
    whisper: WhisperModel, task: Literal["transcribe", "translate"], is_multilingual: bool, prompt: str
) -> None:
    engine = Scripted(NOTHING, is_multilingual=is_multilingual)
    batch, _ = on(engine, whisper, replace(CONFIG, task=task))
    features = np.zeros((80, 10), np.float32)
    batch.decode([features], ["de"])
    batch.decode_again(features, "de")
    assert batch.is_multilingual is is_multilingual
    said = [" ".join(whisper.hf_tokenizer.id_to_token(token) for token in given) for given in engine.prompts]
    assert set(said) == {prompt}
    assert [encoded.shape for encoded in engine.encoded] == [(1, 80, 3000)] * 2


def test_the_engine_is_asked_as_the_batched_pipeline_asks_it(whisper: WhisperModel) -> None:
    engine, config = Scripted(NOTHING), replace(CONFIG, **CHANGED)
    batch, model = on(engine, whisper, config)
    features = np.ones((80, 10), np.float32)
    batch.decode([features], ["en"])
    options = decoding_options(config, model)
    BatchedInferencePipeline(model).generate_segment_batched(
        pad_or_trim(features)[None], batch.tokenizer("en"), options
    )
    assert engine.options[0] == engine.options[1]
    assert engine.prompts[0] == engine.prompts[1]
    np.testing.assert_array_equal(engine.encoded[0], engine.encoded[1])


def test_a_chunk_without_words_has_a_probability_too(whisper: WhisperModel) -> None:
    batch, _ = on(Scripted(NOTHING), whisper)
    (decoded,) = batch.decode([np.zeros((80, 10), np.float32)], ["en"])
    assert decoded == Decoded(tokens=(), avg_logprob=0.0, no_speech_prob=0.25)


def test_the_probe_is_a_window_of_silence(whisper: WhisperModel) -> None:
    engine = Scripted(NOTHING)
    on(engine, whisper)[0].probe()
    (encoded,) = engine.encoded
    np.testing.assert_array_equal(encoded, np.zeros((1, 80, 3000), np.float32))


@pytest.mark.parametrize("text", ["good words", "na" * 60])
@pytest.mark.parametrize("limits", [(-1.0, 0.6, 2.4), (None, 0.6, 2.4), (-1.0, None, 2.4), (-1.0, 0.6, None)], ids=str)
def test_thresholds_drop_and_try_again_what_faster_whisper_does(
    whisper: WhisperModel, limits: tuple[float | None, float | None, float | None], text: str
) -> None:
    """Its sequential pipeline, on an engine that says the same at both temperatures."""
    names = ("log_prob_threshold", "no_speech_threshold", "compression_ratio_threshold")
    thresholds = dict(zip(names, limits, strict=True))
    tokens = Tokenizer(whisper.hf_tokenizer, True, task="transcribe", language="en").encode(text)
    for avg_logprob, no_speech_prob in itertools.product([-1.5, -1.0, -0.5], [0.5, 0.6, 0.7]):
        score = avg_logprob * (len(tokens) + 1) / len(tokens)
        engine = Scripted(Result(sequences_ids=[tokens], scores=[score], no_speech_prob=no_speech_prob))
        batch, model = on(engine, whisper, replace(CONFIG, **thresholds))  # type: ignore[arg-type]  # its own fields
        (decoded,) = batch.decode([np.zeros((80, 10), np.float32)], ["en"])
        assert decoded.avg_logprob == avg_logprob, "to the bit, for the threshold itself"
        segments, _ = model.transcribe(silence(0.1), language="en", temperature=[0.0, 0.7], **thresholds)
        assert batch.is_no_speech(decoded) is (list(segments) == [])
        assert batch.fails_thresholds(decoded, "en") is (len(engine.prompts) == 1 + 2)


def test_segments_lie_at_their_times_in_the_clip(batch: WhisperBatch) -> None:
    """Speech from 2 to 3.5 s and from 10 to 12 s of the clip, once as one chunk and once as two."""
    spans = ((2.0, 3.5), (10.0, 12.0))
    clock = SpeechTimestampsMap([{"start": a * SECOND, "end": b * SECOND} for a, b in spans], SECOND)
    tokenizer = batch.tokenizer("en")
    first, second = tokenizer.encode(" good"), tokenizer.encode(" words")
    at = [tokenizer.timestamp_begin + 50 * seconds for seconds in range(4)]

    def told(chunk: Chunk, tokens: list[int]) -> list[tuple[float, float, str]]:
        decoded = Decoded(tokens=tuple(tokens), avg_logprob=-0.5, no_speech_prob=0.25)
        found = batch.segments(chunk, decoded, "en", clock)
        assert all((segment.avg_logprob, segment.no_speech_prob) == (-0.5, 0.25) for segment, _ in found)
        assert all(segment.text == text.strip() for segment, text in found)
        return [(segment.start_seconds, segment.end_seconds, text) for segment, text in found]

    assert told(chunk(*spans), [*first, *second]) == [(2.0, 12.0, " good words")]
    timed = [at[0], *first, at[1], at[1], *second, at[3]]
    assert told(chunk(*spans), timed) == [(2.0, 3.0, " good"), (3.0, 11.5, " words")]
    assert told(chunk(spans[0]), first) == [(2.0, 3.5, " good")]
    assert told(chunk(spans[1], start=1.5), second) == [(10.0, 12.0, " words")]


def test_a_language_has_one_tokenizer(batch: WhisperBatch) -> None:
    assert batch.tokenizer("de") is batch.tokenizer("de")
    assert [batch.tokenizer(code).language_code for code in LANGUAGES] == list(LANGUAGES)
