"""Stage `transcribe`: what is said, in which language and when, by faster-whisper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ctranslate2
from faster_whisper import WhisperModel
from faster_whisper.vad import SpeechTimestampsMap

from actors.isolate import failure_from, isolate
from actors.sound import audio_note
from actors.speech import Chunk, chunk_speech, find_speech
from actors.transcribe_config import (
    TranscribeConfig,
    decoding_options,
    fingerprint_fields,
    load_whisper,
    vad_options,
)
from actors.whisper_batch import Decoded, WhisperBatch
from records.errors import Failure, FatalError, one_line
from records.items import Row
from records.media import AUDIO_RATE_HZ, Audio
from records.outcomes import Note, Segment, Transcript

__all__ = ["REVISION", "STAGE", "TranscribeConfig", "TranscribeStage", "fingerprint_fields"]

STAGE = "transcribe"

REVISION = 1
"""Raised when this code changes its output."""


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

        Raises:
            FatalError: The model's GPU cannot run it.
        """
        self._config = config
        # Its threads draw from this seed at temperatures above 0.
        ctranslate2.set_random_seed(0)
        loaded = model if model is not None else load_whisper(config)
        self._whisper = WhisperBatch(loaded, decoding_options(config, loaded), config.task)
        self._vad = vad_options(config, self._whisper.window_samples / AUDIO_RATE_HZ)
        if self._whisper.on_gpu:
            self._try_gpu()

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

    def _try_gpu(self) -> None:
        """CTranslate2 looks for CUDA's libraries at its first product only: here, not in the first row."""
        try:
            self._whisper.probe()
        except Exception as error:
            raise FatalError(f"{self._config.model} does not run on this GPU: {one_line(error)}") from error

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
