"""What the demo's clips show and sound like: functions of time."""

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Sound = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]


def shapes(seconds: float, width: int, height: int) -> Image:
    """A red square that moves right and a blue ball that bounces, over a green gradient."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 1] = 60 + y * 120 // height
    side = height // 4
    left = int(seconds * width / 5) % (width - side)
    image[height // 8 : height // 8 + side, left : left + side] = (220, 30, 30)
    centre = height * (0.9 - 0.5 * abs(np.sin(3 * seconds)))
    image[(x - width * 0.6) ** 2 + (y - centre) ** 2 < (height / 10) ** 2] = (40, 60, 230)
    return image


def stripes(seconds: float, width: int, height: int) -> Image:
    """Diagonal yellow stripes that scroll."""
    y, x = np.mgrid[0:height, 0:width]
    lit = (x + y + int(seconds * 60)) % 64 < 32
    return np.where(lit[..., None], np.array([240, 200, 40]), np.array([30, 30, 60])).astype(np.uint8)


def night(seconds: float, width: int, height: int) -> Image:
    """A dark scene with a light that circles."""
    y, x = np.mgrid[0:height, 0:width]
    turn = 2 * np.pi * seconds / 3
    distance = np.hypot(x - width * (0.5 + 0.3 * np.cos(turn)), y - height * (0.5 + 0.3 * np.sin(turn)))
    glow = 255 * np.exp(-distance / (height / 6))
    return np.repeat(glow[..., None], 3, axis=2).astype(np.uint8)


def tone(times: Times) -> Sound:
    """A steady 440 Hz."""
    samples: Sound = (0.4 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    return samples


def sweep(times: Times) -> Sound:
    """A siren between 300 and 900 Hz, one turn in two seconds."""
    samples: Sound = (0.4 * np.sin(2 * np.pi * 600 * times - 600 * np.cos(np.pi * times))).astype(np.float32)
    return samples


def silence(times: Times) -> Sound:
    """Nothing at all, on a track that is there."""
    return np.zeros(len(times), np.float32)


def chords(times: Times) -> Sound:
    """C major and F major, a second each, each with a fading attack."""
    major = np.where((times % 2 < 1)[:, None], [261.6, 329.6, 392.0], [349.2, 440.0, 523.3])
    fade = np.exp(-3 * (times % 1))
    samples: Sound = (0.25 * fade * np.sin(2 * np.pi * major * times[:, None]).sum(axis=1)).astype(np.float32)
    return samples
