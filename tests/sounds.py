"""Sounds made by arithmetic: tones, noise, and vowels that a voice-activity filter takes for speech."""

import numpy as np
import numpy.typing as npt

from records.media import AUDIO_RATE_HZ, Audio

_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
"""First three formants in hertz of a, i, u, e, o (Peterson and Barney 1952, men)."""


def silence(seconds: float) -> npt.NDArray[np.float32]:
    """(N,) zeros."""
    return np.zeros(round(seconds * AUDIO_RATE_HZ), np.float32)


def tone(seconds: float, hertz: float = 440.0, level: float = 0.3) -> npt.NDArray[np.float32]:
    """(N,) a sine."""
    t = np.arange(round(seconds * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ
    return (level * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> npt.NDArray[np.float32]:
    """(N,) white noise."""
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * AUDIO_RATE_HZ))).astype(np.float32)


def babble(seconds: float, seed: int = 0) -> npt.NDArray[np.float32]:
    """(N,) a voice that sings random vowels, four a second: harmonics of a gliding pitch, shaped by formants."""
    random = np.random.default_rng(seed)
    samples = round(seconds * AUDIO_RATE_HZ)
    syllable = AUDIO_RATE_HZ // 4
    parts = []
    phase = 0.0
    for _ in range(-(-samples // syllable)):
        pitch = random.uniform(90, 160) * np.linspace(1, random.uniform(0.85, 1.15), syllable)
        phases = phase + 2 * np.pi * np.cumsum(pitch) / AUDIO_RATE_HZ
        phase = phases[-1]
        harmonics = np.arange(1, 31)[:, None]
        formants = np.array(_VOWELS[random.integers(len(_VOWELS))])[:, None, None]
        gain = np.exp(-(((harmonics * pitch - formants) / 120) ** 2)).sum(axis=0) / harmonics**0.5
        envelope = np.minimum(1, 6 * np.sin(np.linspace(0, np.pi, syllable)))
        parts.append(envelope * (gain * np.sin(harmonics * phases)).sum(axis=0))
    wave = np.concatenate(parts)[:samples]
    loudest = np.abs(wave).max()
    return np.asarray(0.3 * wave / loudest, dtype=np.float32)


def to_audio(*parts: npt.NDArray[np.float32]) -> Audio:
    """The parts one after the other, as decoding would hand them on."""
    return Audio(samples=np.clip(np.concatenate(parts) * 32768, -32768, 32767).astype(np.int16))
