"""Stage `transcribe` against faster-whisper's own pipelines, on a tiny model of the real architecture."""

import weakref
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from faster_whisper import BatchedInferencePipeline, WhisperModel, decode_audio

from actors.speech import Chunk
from actors.transcribe import TranscribeConfig, TranscribeStage, fingerprint_fields
from actors.transcribe_config import decoding_options
from actors.whisper_batch import Features, WhisperBatch
from records.media import Audio
from records.outcomes import Transcript
from tests.actors.rows import make_row
from tests.conftest import TinyModels
from tests.media import needs_media, shared_media
from tests.sounds import babble, noise, silence, to_audio, tone

pytestmark = pytest.mark.engine

PLAIN = TranscribeConfig(
    device="cpu", compute_type="float32", temperatures=(0.0,), no_speech_threshold=None, batch_chunks=3
)
"""What the batched pipeline does: no second decoding, nothing dropped. Three chunks a call mix clips in every way."""


@pytest.fixture(scope="module")
def whisper(tiny_models: TinyModels) -> WhisperModel:
    return WhisperModel(str(tiny_models("whisper")), device="cpu", compute_type="float32", cpu_threads=1)


@pytest.fixture(scope="module")
def clips() -> dict[str, Audio]:
    """Speech-like clips of one to five chunks, two of them from 16 bit to the edge."""
    return {
        "short": to_audio(babble(4, 1)),
        "long": to_audio(silence(1), babble(75, 2), silence(4), babble(31, 3), tone(2)),
        "late": to_audio(silence(20), babble(9, 4)),
        "noisy": to_audio(babble(13, 5) + noise(13, level=0.02)),
        "loud": to_audio(4 * babble(33, 6)),
        "odd": to_audio(babble(6.1234, 7), silence(0.7), babble(1, 8)),
    }


def transcribe(stage: TranscribeStage, *clips: Audio | None) -> list[Transcript]:
    outcomes = stage([make_row(str(index), audio=clip) for index, clip in enumerate(clips)])
    assert all(isinstance(outcome, Transcript) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Transcript)]


def assert_same_as_pipeline(whisper: WhisperModel, clips: Sequence[Audio], config: TranscribeConfig = PLAIN) -> None:
    """Every clip at once through the stage, each alone through faster-whisper."""
    language = config.languages[0] if len(config.languages) == 1 else None
    for got, clip in zip(transcribe(TranscribeStage(config, model=whisper), *clips), clips, strict=True):
        segments, info = BatchedInferencePipeline(whisper).transcribe(clip.to_float(), temperature=0, language=language)
        wanted = list(segments)
        assert got.text == "".join(segment.text for segment in wanted).strip()
        assert [segment.text for segment in got.segments] == [segment.text.strip() for segment in wanted]
        times = [(segment.start_seconds, segment.end_seconds) for segment in got.segments]
        assert times == [(segment.start, segment.end) for segment in wanted]
        assert [s.avg_logprob for s in got.segments] == pytest.approx([s.avg_logprob for s in wanted], abs=1e-4)
        assert [s.no_speech_prob for s in got.segments] == pytest.approx([s.no_speech_prob for s in wanted], abs=1e-5)
        assert got.language == info.language
        assert got.language_probability == pytest.approx(info.language_probability, abs=1e-4)
        assert got.speech_seconds == pytest.approx(info.duration_after_vad)


def test_batches_across_clips_equal_each_clip_alone(whisper: WhisperModel, clips: dict[str, Audio]) -> None:
    assert_same_as_pipeline(whisper, list(clips.values()))


def test_the_parity_test_sees_several_languages_and_texts(whisper: WhisperModel, clips: dict[str, Audio]) -> None:
    transcripts = transcribe(TranscribeStage(PLAIN, model=whisper), *clips.values())
    assert len({transcript.language for transcript in transcripts}) >= 3
    assert len({transcript.text for transcript in transcripts}) == len(clips)
    assert max(len(transcript.segments) for transcript in transcripts) >= 3


def test_a_given_language_is_not_detected(whisper: WhisperModel, clips: dict[str, Audio]) -> None:
    assert_same_as_pipeline(whisper, list(clips.values()), replace(PLAIN, languages=("de",)))


@needs_media
def test_real_speech_equals_the_pipeline(whisper: WhisperModel) -> None:
    folder = shared_media()
    assert folder is not None
    names = ("jfk.flac", "nasa_13013.mp4", "dj_video3.mp4", "dj_video4.mp4")
    sounds = [decode_audio(str(folder / name)) for name in names]
    sounds += [sounds[0][:70_000], np.tile(sounds[0], 4)]
    assert_same_as_pipeline(whisper, [to_audio(sound) for sound in sounds])


def test_the_batch_size_changes_nothing(whisper: WhisperModel, clips: dict[str, Audio]) -> None:
    results = [
        [t.text for t in transcribe(TranscribeStage(replace(PLAIN, batch_chunks=size), model=whisper), *clips.values())]
        for size in (1, 4, 32)
    ]
    assert results[0] == results[1] == results[2]


def test_speed_does_not_enter_the_fingerprint() -> None:
    fields = fingerprint_fields(TranscribeConfig())
    assert not {"model", "revision", "device", "batch_chunks", "pool"} & set(fields)
    assert {"compute_type", "beam_size", "temperatures", "vad_threshold", "languages"} <= set(fields)


def test_long_sound_keeps_the_features_of_one_call(whisper: WhisperModel) -> None:
    """Features are made chunk by chunk and dropped after their call, however long the clip."""
    alive: list[weakref.ref[Features]] = []
    most = 0

    class Watched(WhisperBatch):
        def features(self, audio: Audio, chunk: Chunk) -> Features:
            nonlocal most
            made = super().features(audio, chunk)
            alive.append(weakref.ref(made))
            most = max(most, sum(reference() is not None for reference in alive))
            return made

    config = replace(PLAIN, languages=("en",), batch_chunks=1)
    stage = TranscribeStage(config, model=whisper)
    stage._whisper = Watched(whisper, decoding_options(config, whisper), config.task)
    (transcript,) = transcribe(stage, to_audio(*(babble(25, seed) for seed in range(9))))
    assert len(alive) == len(transcript.segments) >= 5
    assert most <= 2
