"""Stage `transcribe`: what is said, in which language and when, by faster-whisper."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ctranslate2
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer
from faster_whisper.transcribe import TranscriptionOptions, get_suppressed_tokens
from faster_whisper.vad import SpeechTimestampsMap, VadOptions

from actors.isolate import failure_from, isolate
from actors.sound import audio_note
from actors.speech import Chunk, chunk_speech, find_speech
from actors.stage import PoolConfig
from actors.whisper_batch import Decoded, WhisperBatch
from records.errors import Failure
from records.items import Row
from records.media import AUDIO_RATE_HZ, Audio
from records.outcomes import Note, Segment, Transcript

logger = logging.getLogger(__name__)

STAGE = "transcribe"

REVISION = 1
"""Raised when this code changes its output."""

_SPEED_ONLY = frozenset({"model", "revision", "device", "batch_chunks", "pool"})
"""Not in the fingerprint: the model enters by its commit; the rest changes how fast, not what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscribeConfig:
    """How speech becomes text. The defaults are those of faster-whisper's batched pipeline and of Whisper's thresholds.

    Raises:
        ValueError: A field is out of its range.
    """

    model: str = "Systran/faster-whisper-large-v3"
    """A CTranslate2 Whisper: a hub id or a folder."""
    revision: str | None = None
    """Commit of a hub id."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    compute_type: str = "float16"
    """CTranslate2's number format: float32, float16, int8, int8_float16 …"""
    task: str = "transcribe"
    """`transcribe`, or `translate` into English."""
    languages: tuple[str, ...] = ()
    """Codes to choose from; all of the model's if empty; with one, nothing is detected."""
    beam_size: int = 5
    best_of: int = 5
    """Candidates at temperatures above 0."""
    patience: float = 1.0
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    """Longest run of tokens that may not come twice; 0 allows all."""
    temperatures: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """The first is 0: all chunks share a call. The others are tried in turn on a chunk that fails a threshold."""
    log_prob_threshold: float | None = -1.0
    """Mean log-probability of a token below which a chunk is decoded again; None never does."""
    compression_ratio_threshold: float | None = 2.4
    """Ratio of a text's bytes to its zlib-compressed bytes above which it is repetitive and decoded again."""
    no_speech_threshold: float | None = 0.6
    """Probability of no speech above which a chunk of unsure words is dropped; None keeps all."""
    vad_threshold: float = 0.5
    """Probability of speech from which a stretch of 32 ms counts as speech."""
    vad_min_speech_ms: int = 0
    """Shorter stretches of speech are left out."""
    vad_min_silence_ms: int = 160
    """Shorter silences do not end a stretch."""
    vad_speech_pad_ms: int = 400
    """Kept on both sides of a stretch."""
    batch_chunks: int = 16
    """Chunks of up to 30 s in one call of the engine."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(num_gpus=0.25, batch_rows=16))

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"transcribe: device is auto, cpu or cuda, not {self.device!r}")
        if self.task not in ("transcribe", "translate"):
            raise ValueError(f"transcribe: task is transcribe or translate, not {self.task!r}")
        unknown = sorted(set(self.languages) - set(_LANGUAGE_CODES))
        if unknown:
            raise ValueError(f"transcribe: Whisper knows no language {', '.join(unknown)}")
        if not self.temperatures or self.temperatures[0] != 0.0 or list(self.temperatures) != sorted(self.temperatures):
            raise ValueError(f"transcribe: temperatures start at 0 and rise, unlike {self.temperatures}")
        if min(self.beam_size, self.best_of, self.batch_chunks) < 1 or self.no_repeat_ngram_size < 0:
            raise ValueError("transcribe: beam_size, best_of and batch_chunks must be at least 1")
        if not 0 < self.vad_threshold < 1:
            raise ValueError(f"transcribe: vad_threshold lies between 0 and 1, unlike {self.vad_threshold}")
        if min(self.vad_min_speech_ms, self.vad_min_silence_ms, self.vad_speech_pad_ms) < 0:
            raise ValueError("transcribe: times of the voice-activity filter must not be negative")


def fingerprint_fields(config: TranscribeConfig) -> Mapping[str, object]:
    """What of the config changes the transcript."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in _SPEED_ONLY}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clip:
    """One row that has speech."""

    row: int
    audio: Audio
    spans: tuple[tuple[int, int], ...]
    chunks: tuple[Chunk, ...]


class TranscribeStage:
    """Transcribes rows; chunks of speech of different rows share the engine's calls."""

    def __init__(self, config: TranscribeConfig, *, model: WhisperModel | None = None) -> None:
        """Loads the model.

        Args:
            config: `model` and `revision` as resolved: a folder, or a hub id with its commit.
            model: A loaded model instead of the config's.
        """
        self._config = config
        # Its threads draw from this seed at temperatures above 0.
        ctranslate2.set_random_seed(0)
        loaded = model if model is not None else _load(config)
        self._whisper = WhisperBatch(loaded, _options(config, loaded), config.task)
        self._vad = VadOptions(
            threshold=config.vad_threshold,
            min_speech_duration_ms=config.vad_min_speech_ms,
            min_silence_duration_ms=config.vad_min_silence_ms,
            speech_pad_ms=config.vad_speech_pad_ms,
            max_speech_duration_s=self._whisper.window_samples / AUDIO_RATE_HZ,
        )

    def __call__(self, rows: Sequence[Row]) -> list[Transcript | Failure]:
        """One transcript for each row, in order; a row whose sound the engine cannot take gets a `Failure`.

        Raises:
            FatalError: The engine fails on silence too.
        """
        outcomes: dict[int, Transcript | Failure] = {}
        clips: list[_Clip] = []
        for index, row in enumerate(rows):
            note = audio_note(row.audio)
            if note is not Note.NONE:
                outcomes[index] = Transcript(text="", note=note)
                continue
            try:
                clip = self._listen(index, row)
            except Exception as error:  # noqa: BLE001 - whatever one clip's sound provokes costs that clip alone
                outcomes[index] = failure_from(STAGE, error)
                continue
            if clip.chunks:
                clips.append(clip)
            else:
                outcomes[index] = Transcript(text="", note=Note.NO_SPEECH)
        outcomes.update(self._transcribe(clips))
        return [outcomes[index] for index in range(len(rows))]

    def close(self) -> None:
        """Nothing outlives the object: CTranslate2 frees the model with it."""

    def _listen(self, index: int, row: Row) -> _Clip:
        assert row.audio is not None
        spans = tuple(find_speech(row.audio, self._vad))
        chunks = tuple(chunk_speech(index, spans, self._whisper.window_samples))
        return _Clip(row=index, audio=row.audio, spans=spans, chunks=chunks)

    def _transcribe(self, clips: Sequence[_Clip]) -> dict[int, Transcript | Failure]:
        """Row index to outcome, for clips that have speech."""
        outcomes: dict[int, Transcript | Failure] = {}
        languages: dict[int, tuple[str, float]] = {}
        for clip, language in zip(clips, self._languages(clips), strict=True):
            if isinstance(language, Exception):
                outcomes[clip.row] = failure_from(STAGE, language)
            else:
                languages[clip.row] = language
        clips = [clip for clip in clips if clip.row in languages]
        decoded: dict[int, list[Decoded]] = {clip.row: [] for clip in clips}
        for chunk, result in self._decode(clips, languages):
            if isinstance(result, Exception):
                outcomes.setdefault(chunk.clip, failure_from(STAGE, result))
            else:
                decoded[chunk.clip].append(result)
        for clip in clips:
            if clip.row not in outcomes:
                outcomes[clip.row] = self._transcript(clip, decoded[clip.row], languages[clip.row])
        return outcomes

    def _languages(self, clips: Sequence[_Clip]) -> list[tuple[str, float] | Exception]:
        if not self._whisper.is_multilingual:
            return [("en", 1.0)] * len(clips)
        allowed = self._config.languages
        if len(allowed) == 1:
            return [(allowed[0], 1.0)] * len(clips)

        def work(batch: Sequence[_Clip]) -> list[tuple[str, float]]:
            features = [self._whisper.language_features(clip.audio, clip.chunks) for clip in batch]
            return self._whisper.languages(features, allowed)

        detected: list[tuple[str, float] | Exception] = []
        for start in range(0, len(clips), self._config.batch_chunks):
            detected += isolate(clips[start : start + self._config.batch_chunks], work, self._whisper.probe)
        return detected

    def _decode(
        self, clips: Sequence[_Clip], languages: Mapping[int, tuple[str, float]]
    ) -> list[tuple[Chunk, Decoded | Exception]]:
        """Every chunk with what came of it, in order. Features live for one call: long sound stays bounded."""
        audio = {clip.row: clip.audio for clip in clips}
        chunks = [chunk for clip in clips for chunk in clip.chunks]

        def work(batch: Sequence[Chunk]) -> list[Decoded]:
            codes = [languages[chunk.clip][0] for chunk in batch]
            features = [self._whisper.features(audio[chunk.clip], chunk) for chunk in batch]
            return self._whisper.decode(features, codes)

        def work_again(batch: Sequence[Chunk]) -> list[Decoded]:
            return [
                self._whisper.decode_again(self._whisper.features(audio[chunk.clip], chunk), languages[chunk.clip][0])
                for chunk in batch
            ]

        results: list[tuple[Chunk, Decoded | Exception]] = []
        for start in range(0, len(chunks), self._config.batch_chunks):
            batch = chunks[start : start + self._config.batch_chunks]
            for chunk, first in zip(batch, isolate(batch, work, self._whisper.probe), strict=True):
                result = first
                if isinstance(first, Decoded) and self._needs_fallback(first, languages[chunk.clip][0]):
                    result = isolate([chunk], work_again, self._whisper.probe)[0]
                results.append((chunk, result))
        return results

    def _needs_fallback(self, decoded: Decoded, language: str) -> bool:
        return len(self._config.temperatures) > 1 and self._whisper.fails_thresholds(decoded, language)

    def _transcript(self, clip: _Clip, decoded: Sequence[Decoded], language: tuple[str, float]) -> Transcript:
        clock = SpeechTimestampsMap([{"start": start, "end": end} for start, end in clip.spans], AUDIO_RATE_HZ)
        segments: list[Segment] = []
        texts: list[str] = []
        for chunk, result in zip(clip.chunks, decoded, strict=True):
            if self._whisper.is_no_speech(result):
                continue
            for segment, text in self._whisper.segments(chunk, result, language[0], clock):
                segments.append(segment)
                texts.append(text)
        speech_seconds = sum(end - start for start, end in clip.spans) / AUDIO_RATE_HZ
        if not segments:
            return Transcript(text="", speech_seconds=speech_seconds, note=Note.NO_SPEECH)
        return Transcript(
            text="".join(texts).strip(),
            language=language[0],
            language_probability=language[1],
            speech_seconds=speech_seconds,
            segments=tuple(segments),
        )


def _load(config: TranscribeConfig) -> WhisperModel:
    return WhisperModel(
        config.model,
        revision=config.revision,
        device=config.device,
        compute_type=config.compute_type,
        cpu_threads=max(1, round(config.pool.num_cpus)),
    )


def _options(config: TranscribeConfig, model: WhisperModel) -> TranscriptionOptions:
    """The options of `BatchedInferencePipeline.transcribe`, with every temperature."""
    tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task=config.task, language="en")
    return TranscriptionOptions(
        beam_size=config.beam_size,
        best_of=config.best_of,
        patience=config.patience,
        length_penalty=config.length_penalty,
        repetition_penalty=config.repetition_penalty,
        no_repeat_ngram_size=config.no_repeat_ngram_size,
        log_prob_threshold=config.log_prob_threshold,
        no_speech_threshold=config.no_speech_threshold,
        compression_ratio_threshold=config.compression_ratio_threshold,
        condition_on_previous_text=False,
        prompt_reset_on_temperature=0.5,
        temperatures=list(config.temperatures),
        initial_prompt=None,
        prefix=None,
        suppress_blank=True,
        suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
        without_timestamps=True,
        max_initial_timestamp=0.0,
        word_timestamps=False,
        prepend_punctuations="",
        append_punctuations="",
        multilingual=False,
        max_new_tokens=None,
        clip_timestamps=[],
        hallucination_silence_threshold=None,
        hotwords=None,
    )
