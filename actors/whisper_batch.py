"""Speech of many clips through one Whisper: chunks of different clips share a call, each with its own language.

The steps are those of faster-whisper's `BatchedInferencePipeline.transcribe` (1.2), which takes one clip at a time:
the same voice-activity filter, the same chunks, the same prompt, the same decoding. What is added is Whisper's own
treatment of chunks that fail its thresholds (Radford et al. 2022, section 4.5), which that pipeline leaves out.

Shape suffixes: B chunks, M mel bins, F frames of 10 ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import TranscriptionOptions, get_compression_ratio
from faster_whisper.vad import SpeechTimestampsMap

from actors.speech import Chunk
from records.media import AUDIO_RATE_HZ, Audio
from records.outcomes import Segment

Features = npt.NDArray[np.float32]

_QUIET_FEATURE = -1.5
"""The frame that faster-whisper appends before it detects a language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What the model made of one chunk."""

    tokens: tuple[int, ...]
    avg_logprob: float
    no_speech_prob: float


class WhisperBatch:
    """The model's operations on batches of chunks. Holds no state of any clip."""

    def __init__(self, model: WhisperModel, options: TranscriptionOptions, task: str) -> None:
        """Wraps a loaded model.

        Args:
            model: Ready to use.
            options: How to decode; `temperatures` past the first are used by `decode_again` alone.
            task: `transcribe` or `translate`.
        """
        self._model: Any = model
        self._options: Any = options
        self._task = task
        self._tokenizers: dict[str, Tokenizer] = {}

    @property
    def window_samples(self) -> int:
        """Length of what the model hears at once."""
        return int(self._model.feature_extractor.n_samples)

    @property
    def is_multilingual(self) -> bool:
        """Whether the model knows languages other than English."""
        return bool(self._model.model.is_multilingual)

    @property
    def on_gpu(self) -> bool:
        """Whether the model was loaded onto a GPU."""
        return bool(self._model.model.device == "cuda")

    def features(self, audio: Audio, chunk: Chunk) -> Features:
        """(M, F) log-mel features of a chunk, unpadded."""
        samples = np.concatenate([audio.samples[start:end] for start, end in chunk.spans])
        features: Features = self._model.feature_extractor(Audio(samples=samples).to_float())[..., :-1]
        return features

    def language_features(self, audio: Audio, chunks: Sequence[Chunk]) -> Features:
        """(M, F) what a clip's language is told from: its first window of speech, over as many chunks as that takes."""
        frames = int(self._model.feature_extractor.nb_max_frames)
        parts: list[Features] = []
        for chunk in chunks:
            parts.append(self.features(audio, chunk))
            if sum(part.shape[1] for part in parts) >= frames:
                break
        parts.append(np.full((parts[0].shape[0], 1), _QUIET_FEATURE, dtype=np.float32))
        joined: Features = pad_or_trim(np.concatenate(parts, axis=1)[:, :frames])
        return joined

    def languages(self, features: Sequence[Features], allowed: Sequence[str]) -> list[tuple[str, float]]:
        """The likeliest language of each clip, of those allowed, with its probability among all."""
        encoded = self._model.encode(np.stack(features))
        detected = []
        for ranked in self._model.model.detect_language(encoded):
            codes = [(token[2:-2], float(probability)) for token, probability in ranked]
            detected.append(next(pair for pair in codes if not allowed or pair[0] in allowed))
        return detected

    def decode(self, features: Sequence[Features], languages: Sequence[str]) -> list[Decoded]:
        """Decodes unpadded chunks in one call at the first temperature, each with the prompt of its own language."""
        options = self._options
        results = self._model.model.generate(
            self._model.encode(np.stack([pad_or_trim(chunk) for chunk in features])),
            [self._prompt(language) for language in languages],
            beam_size=options.beam_size,
            patience=options.patience,
            length_penalty=options.length_penalty,
            max_length=self._model.max_length,
            suppress_blank=options.suppress_blank,
            suppress_tokens=options.suppress_tokens,
            return_scores=True,
            return_no_speech_prob=True,
            sampling_temperature=0.0,
            repetition_penalty=options.repetition_penalty,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
        )
        return [self._decoded(result) for result in results]

    def decode_again(self, features: Features, language: str) -> Decoded:
        """Decodes one chunk alone, at rising temperatures until it meets the thresholds, as Whisper does."""
        encoded = self._model.encode(pad_or_trim(features))
        result, *_ = self._model.generate_with_fallback(
            encoded, self._prompt(language), self.tokenizer(language), self._options
        )
        return self._decoded(result)

    def is_no_speech(self, decoded: Decoded) -> bool:
        """Whether Whisper would skip the chunk: it says that nobody speaks, and is not sure of its words."""
        options = self._options
        if options.no_speech_threshold is None or decoded.no_speech_prob <= options.no_speech_threshold:
            return False
        return options.log_prob_threshold is None or decoded.avg_logprob <= options.log_prob_threshold

    def fails_thresholds(self, decoded: Decoded, language: str) -> bool:
        """Whether Whisper would decode the chunk again: too repetitive, or too unsure of its words."""
        options = self._options
        text = self.tokenizer(language).decode(list(decoded.tokens)).strip()
        ratio_limit, logprob_limit = options.compression_ratio_threshold, options.log_prob_threshold
        repetitive = ratio_limit is not None and get_compression_ratio(text) > ratio_limit
        unsure = logprob_limit is not None and decoded.avg_logprob < logprob_limit
        quiet = options.no_speech_threshold is not None and decoded.no_speech_prob > options.no_speech_threshold
        return (repetitive or unsure) and not (unsure and quiet)

    def segments(
        self, chunk: Chunk, decoded: Decoded, language: str, clock: SpeechTimestampsMap
    ) -> list[tuple[Segment, str]]:
        """A chunk's segments at their times in the clip, each with its text as the model spaced it."""
        tokenizer: Any = self.tokenizer(language)
        seconds = chunk.samples / AUDIO_RATE_HZ
        pieces, _, _ = self._model._split_segments_by_timestamps(
            tokenizer=tokenizer,
            tokens=list(decoded.tokens),
            time_offset=chunk.start / AUDIO_RATE_HZ,
            segment_size=int(np.ceil(seconds)) * self._model.frames_per_second,
            segment_duration=seconds,
            seek=0,
        )
        segments = []
        for piece in pieces:
            text = tokenizer.decode(piece["tokens"])
            segment = Segment(
                start_seconds=clock.get_original_time(round(piece["start"], 3)),
                end_seconds=clock.get_original_time(round(piece["end"], 3), is_end=True),
                text=text.strip(),
                avg_logprob=decoded.avg_logprob,
                no_speech_prob=decoded.no_speech_prob,
            )
            segments.append((segment, text))
        return segments

    def probe(self) -> None:
        """Raises where the engine cannot even encode silence."""
        extractor = self._model.feature_extractor
        self._model.encode(np.zeros((1, extractor.mel_filters.shape[0], extractor.nb_max_frames), np.float32))

    def tokenizer(self, language: str) -> Tokenizer:
        """The tokenizer whose prompt names `language`."""
        if language not in self._tokenizers:
            self._tokenizers[language] = Tokenizer(
                self._model.hf_tokenizer, self.is_multilingual, task=self._task, language=language
            )
        return self._tokenizers[language]

    def _prompt(self, language: str) -> list[int]:
        prompt: list[int] = self._model.get_prompt(
            self.tokenizer(language), previous_tokens=[], without_timestamps=True
        )
        return prompt

    def _decoded(self, result: "ctranslate2.models.WhisperGenerationResult") -> Decoded:
        tokens = result.sequences_ids[0]
        total_logprob = result.scores[0] * len(tokens) ** self._options.length_penalty
        return Decoded(
            tokens=tuple(tokens), avg_logprob=total_logprob / (len(tokens) + 1), no_speech_prob=result.no_speech_prob
        )
