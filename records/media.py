"""What decoding yields: frames and sound, as numpy arrays that state their shape, dtype and unit.

T frames, H height, W width in pixels, N samples.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

AUDIO_RATE_HZ = 16_000
"""The one sample rate of the pipeline: what Whisper, AST and Qwen2-Audio take."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """Sampled frames of one clip, upright, at the size the captioner's processor would choose.

    Raises:
        ValueError: The array is not uint8 (T, H, W, 3) with one time and one index a frame.
    """

    pixels: npt.NDArray[np.uint8]
    """(T, H, W, 3) uint8 RGB."""
    times_seconds: tuple[float, ...]
    """(T,) presentation time of each frame, seconds from the start of the video stream."""
    indices: tuple[int, ...]
    """(T,) position of each frame in the stream, from 0."""
    source_fps: float
    """Average frame rate of the stream, frames a second."""
    source_frames: int
    """Number of frames of the whole stream."""
    duration_seconds: float
    """Length of the video stream."""

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise ValueError(f"frames must be uint8 (T, H, W, 3), not {self.pixels.dtype} {self.pixels.shape}")
        if not len(self.pixels) == len(self.times_seconds) == len(self.indices):
            raise ValueError(f"{len(self.pixels)} frames, {len(self.times_seconds)} times, {len(self.indices)} indices")

    @property
    def sampled_fps(self) -> float:
        """Frames a second after sampling: what the captioner must be told."""
        return len(self.indices) / self.duration_seconds if self.duration_seconds > 0 else self.source_fps

    def __repr__(self) -> str:
        return f"Frames(pixels={self.pixels.shape} uint8, {self.duration_seconds:.2f} s at {self.source_fps:.2f} fps)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audio:
    """The sound of one clip: mono, 16 kHz.

    Raises:
        ValueError: The array is not int16 (N,).
    """

    samples: npt.NDArray[np.int16]
    """(N,) int16 at `AUDIO_RATE_HZ`."""

    def __post_init__(self) -> None:
        if self.samples.dtype != np.int16 or self.samples.ndim != 1:
            raise ValueError(f"audio must be int16 (N,), not {self.samples.dtype} {self.samples.shape}")

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / AUDIO_RATE_HZ

    def to_float(self) -> npt.NDArray[np.float32]:
        """(N,) float32 in [-1, 1), as every model of sound takes it."""
        return self.samples.astype(np.float32) / 32768.0

    def __repr__(self) -> str:
        return f"Audio(samples={self.samples.shape} int16, {self.duration_seconds:.2f} s)"
