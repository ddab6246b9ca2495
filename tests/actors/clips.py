"""Frames and sounds that differ from each other in every part, for the stages that generate text."""

import numpy as np

from records.media import AUDIO_RATE_HZ, Audio, Frames

SOURCE_FPS = 24.0


def moving_noise(seed: int, *, count: int = 8, fps: float = 2.0, height: int = 112, width: int = 112) -> Frames:
    """Blocks of colour that move sideways, sampled every `SOURCE_FPS / fps` frames."""
    step = round(SOURCE_FPS / fps)
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    indices = tuple(range(0, count * step, step))
    return Frames(
        pixels=np.stack([np.roll(picture, 3 * index, axis=1) for index in range(count)]),
        times_seconds=tuple(index / SOURCE_FPS for index in indices),
        indices=indices,
        source_fps=SOURCE_FPS,
        source_frames=count * step,
        duration_seconds=count * step / SOURCE_FPS,
    )


def tone(seconds: float, *, hertz: float = 440.0, level: float = 0.3) -> Audio:
    """A sine at a share of full scale."""
    time = np.arange(round(seconds * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ
    return Audio(samples=np.round(32767 * level * np.sin(2 * np.pi * hertz * time)).astype(np.int16))


def silence(seconds: float) -> Audio:
    """Zeros."""
    return Audio(samples=np.zeros(round(seconds * AUDIO_RATE_HZ), dtype=np.int16))


def join(*parts: Audio) -> Audio:
    """One after the other."""
    return Audio(samples=np.concatenate([part.samples for part in parts]))
