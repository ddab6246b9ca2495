"""How stage `transcribe` is configured, and what faster-whisper is given of it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import ctranslate2
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer
from faster_whisper.transcribe import TranscriptionOptions, get_suppressed_tokens
from faster_whisper.vad import VadOptions

from actors.cuda_12 import CUBLAS, nvidia_folders, preload
from actors.stage import PoolConfig

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
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`, `cpu` or `cuda`."""
    compute_type: str = "float16"
    """CTranslate2's number format: float32, float16, int8, int8_float16 …"""
    task: Literal["transcribe", "translate"] = "transcribe"
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
        if self.temperatures[:1] != (0.0,) or not all(a <= b < math.inf for a, b in pairwise(self.temperatures)):
            raise ValueError(f"transcribe: temperatures start at 0 and rise, unlike {self.temperatures}")
        if min(self.beam_size, self.best_of, self.batch_chunks) < 1:
            raise ValueError("transcribe: beam_size, best_of and batch_chunks must be at least 1")
        if self.no_repeat_ngram_size < 0:
            raise ValueError("transcribe: no_repeat_ngram_size must not be negative")
        # CTranslate2 would refuse each clip, one by one.
        if not (0 < self.patience < math.inf and 0 < self.repetition_penalty < math.inf):
            raise ValueError("transcribe: patience and repetition_penalty must be finite and above 0")
        for name in ("length_penalty", "log_prob_threshold", "compression_ratio_threshold", "no_speech_threshold"):
            if not math.isfinite(getattr(self, name) or 0.0):
                raise ValueError(f"transcribe: {name} must be finite, not {getattr(self, name)}")
        if not 0 < self.vad_threshold < 1:
            raise ValueError(f"transcribe: vad_threshold lies between 0 and 1, unlike {self.vad_threshold}")
        if min(self.vad_min_speech_ms, self.vad_min_silence_ms, self.vad_speech_pad_ms) < 0:
            raise ValueError("transcribe: times of the voice-activity filter must not be negative")


def fingerprint_fields(config: TranscribeConfig) -> Mapping[str, object]:
    """What of the config changes the transcript."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in _SPEED_ONLY}


def load_whisper(config: TranscribeConfig) -> WhisperModel:
    """The config's model, ready to use."""
    if config.device == "cuda" or (config.device == "auto" and ctranslate2.get_cuda_device_count() > 0):
        preload(CUBLAS, nvidia_folders())
    return WhisperModel(
        config.model,
        revision=config.revision,
        device=config.device,
        compute_type=config.compute_type,
        cpu_threads=max(1, round(config.pool.num_cpus)),
    )


def vad_options(config: TranscribeConfig, window_seconds: float) -> VadOptions:
    """The voice-activity filter; no stretch of speech is longer than the model's window."""
    return VadOptions(
        threshold=config.vad_threshold,
        min_speech_duration_ms=config.vad_min_speech_ms,
        min_silence_duration_ms=config.vad_min_silence_ms,
        speech_pad_ms=config.vad_speech_pad_ms,
        max_speech_duration_s=window_seconds,
    )


def decoding_options(config: TranscribeConfig, model: WhisperModel) -> TranscriptionOptions:
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
