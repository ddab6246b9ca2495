"""Stage `tag_audio`: which of AudioSet's sounds a clip holds, by an Audio Spectrogram Transformer.

The model (Gong et al., Interspeech 2021) hears about ten seconds; longer sound is heard window by window, and a label's
score is its highest over the windows: a dog that barks once is in the clip.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from actors.isolate import failure_from, isolate
from actors.sound import audio_note
from actors.stage import PoolConfig
from records.errors import Failure
from records.items import Row
from records.media import AUDIO_RATE_HZ, Audio
from records.outcomes import AudioTags, Note

STAGE = "tag_audio"

REVISION = 1
"""Raised when this code changes its output."""

_SPEED_ONLY = frozenset({"model", "revision", "device", "batch_windows", "pool"})

_FRAME_SAMPLES, _HOP_SAMPLES = 400, 160
"""Kaldi's frames of 25 ms each 10 ms, which the feature extractor has built in."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagAudioConfig:
    """Which sounds are told, and how many.

    Raises:
        ValueError: A field is out of its range.
    """

    model: str = "MIT/ast-finetuned-audioset-10-10-0.4593"
    """An AST classifier: a hub id or a folder."""
    revision: str | None = None
    """Commit of a hub id."""
    device: str = "auto"
    """`auto` (CUDA where there is a GPU), `cpu`, `cuda` or `cuda:<n>`."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the model: `float32`, `float16` or `bfloat16`."""
    top_k: int = 10
    """Labels kept, highest score first."""
    min_score: float = 0.0
    """Labels below are left out."""
    batch_windows: int = 16
    """Windows of about ten seconds in one forward pass."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(num_gpus=0.1, batch_rows=16))

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"tag_audio: dtype is float32, float16 or bfloat16, not {self.dtype!r}")
        if min(self.top_k, self.batch_windows) < 1:
            raise ValueError("tag_audio: top_k and batch_windows must be at least 1")
        if not 0 <= self.min_score < 1:
            raise ValueError(f"tag_audio: min_score lies between 0 and 1, unlike {self.min_score}")


def fingerprint_fields(config: TagAudioConfig) -> Mapping[str, object]:
    """What of the config changes the tags."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in _SPEED_ONLY}


class Tagger(Protocol):
    """An engine that scores windows of sound."""

    labels: tuple[str, ...]
    window_samples: int

    def __call__(self, windows: Sequence[Floats]) -> Floats:
        """(B, L) scores in [0, 1] of B windows, each float32 (N,) at 16 kHz, for the L labels."""
        ...


class AstTagger:
    """The model of transformers, with a sigmoid for each label."""

    def __init__(self, config: TagAudioConfig) -> None:
        """Loads the weights."""
        # Imported where used: both take seconds, and a config is read in processes that run no model.
        import torch
        from transformers import ASTFeatureExtractor, ASTForAudioClassification

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = device if config.device == "auto" else config.device
        self._dtype = getattr(torch, config.dtype)
        self._extractor: Any = ASTFeatureExtractor.from_pretrained(config.model, revision=config.revision)
        model = ASTForAudioClassification.from_pretrained(config.model, revision=config.revision, dtype=self._dtype)
        self._model: Any = model.to(self._device).eval()
        labels = self._model.config.id2label
        self.labels = tuple(str(labels[index]) for index in range(len(labels)))
        self.window_samples = _FRAME_SAMPLES + _HOP_SAMPLES * (int(self._extractor.max_length) - 1)

    def __call__(self, windows: Sequence[Floats]) -> Floats:
        """(B, L) scores."""
        import torch

        # The extractor cannot take less than one frame.
        padded = [np.pad(window, (0, max(0, _FRAME_SAMPLES - len(window)))) for window in windows]
        inputs = self._extractor(padded, sampling_rate=AUDIO_RATE_HZ, return_tensors="pt")["input_values"]
        with torch.inference_mode():
            logits = self._model(input_values=inputs.to(self._device, self._dtype)).logits
            scores: Floats = torch.sigmoid(logits.float()).cpu().numpy()
        return scores


class TagAudioStage:
    """Tags rows; windows of different rows share forward passes."""

    def __init__(self, config: TagAudioConfig, *, tagger: Tagger | None = None) -> None:
        """Loads the model.

        Args:
            config: `model` and `revision` as resolved: a folder, or a hub id with its commit.
            tagger: Another engine.
        """
        self._config = config
        self._tagger: Tagger = tagger if tagger is not None else AstTagger(config)

    def __call__(self, rows: Sequence[Row]) -> list[AudioTags | Failure]:
        """The tags of each row, in order; a row whose sound the engine cannot take gets a `Failure`.

        Raises:
            FatalError: The engine fails on silence too.
        """
        notes = [audio_note(row.audio) for row in rows]
        heard = [(index, row.audio) for index, row in enumerate(rows) if row.audio is not None and not notes[index]]
        windows = [(index, audio, start) for index, audio in heard for start in self._starts(audio)]
        scores: dict[int, list[Floats | Exception]] = {index: [] for index, _ in heard}
        for begin in range(0, len(windows), self._config.batch_windows):
            batch = windows[begin : begin + self._config.batch_windows]
            for (index, _, _), score in zip(batch, isolate(batch, self._score, self._probe), strict=True):
                scores[index].append(score)
        return [
            self._tags(scores[index]) if index in scores else AudioTags(labels=(), scores=(), note=note)
            for index, note in enumerate(notes)
        ]

    def close(self) -> None:
        """Nothing outlives the object: torch frees the model with it."""

    def _starts(self, audio: Audio) -> Iterator[int]:
        """First sample of each window; the last ends with the sound, so that it is full wherever one can be."""
        samples, window = len(audio.samples), self._tagger.window_samples
        yield from range(0, max(samples - window, 0), window)
        yield max(samples - window, 0)

    def _score(self, batch: Sequence[tuple[int, Audio, int]]) -> list[Floats]:
        length = self._tagger.window_samples
        sounds = [Audio(samples=audio.samples[start : start + length]).to_float() for _, audio, start in batch]
        return list(self._tagger(sounds))

    def _probe(self) -> None:
        self._tagger([np.zeros(self._tagger.window_samples, np.float32)])

    def _tags(self, windows: Sequence[Floats | Exception]) -> AudioTags | Failure:
        for window in windows:
            if isinstance(window, Exception):
                return failure_from(STAGE, window)
        highest: Floats = np.max(np.stack([window for window in windows if not isinstance(window, Exception)]), axis=0)
        order = np.argsort(-highest, kind="stable")[: self._config.top_k]
        kept = [int(index) for index in order if highest[index] >= self._config.min_score]
        return AudioTags(
            labels=tuple(self._tagger.labels[index] for index in kept),
            scores=tuple(float(highest[index]) for index in kept),
            windows=len(windows),
            note=Note.NONE,
        )
