"""Small clips made with PyAV's own encoders, so that the tests need no media of anybody."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

TIME_BASE = Fraction(1, 30_000)
"""Divides every frame rate that the tests use, and every odd time of a variable one."""
SAMPLE_RATE = 44_100


def draw(index: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8: a bright square that moves right over a gradient; its top-left quarter is red, so turns show.

    Every frame differs from every other, and up, down, left and right can be told apart.
    """
    y, x = np.mgrid[0:height, 0:width]
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = x * 160 // max(width - 1, 1)
    image[..., 1] = y * 160 // max(height - 1, 1)
    image[..., 2] = (index * 11) % 160
    image[: height // 3, : width // 3] = (220, 30, 30)
    side = max(height // 4, 2)
    left = (index * max(width // 40, 1)) % max(width - side, 1)
    image[height - side :, left : left + side] = (240, 240, 240)
    return image


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 440.0) -> npt.NDArray[np.float32]:
    """(2, N) float32 in [-0.5, 0.5]: the tone on the left, an octave above on the right, so that mixing shows."""
    t = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * hertz * np.stack([t, 2 * t])).astype(np.float32)


def make_clip(
    path: Path | io.BytesIO,
    *,
    seconds: float = 2.0,
    width: int = 112,
    height: int = 84,
    fps: int = 10,
    codec: str | None = "libx264",
    pix_fmt: str = "yuv420p",
    audio: bool = True,
    audio_codec: str = "aac",
    rotation: int = 0,
    start_seconds: float = 0.0,
    times: Sequence[float] | None = None,
    container: str | None = None,
    sample_aspect_ratio: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    samples: npt.NDArray[np.float32] | None = None,
    image: Callable[[int, int, int], npt.NDArray[np.uint8]] = draw,
) -> None:
    """Encodes one clip.

    Args:
        path: Where to; a buffer needs `container`.
        seconds: Length; the number of frames is `seconds * fps`.
        codec: Any encoder of the wheel (libx264, libx265, libvpx-vp9, libsvtav1, mpeg4 …), or None for sound alone.
        rotation: Degrees clockwise that a player must turn the stored picture.
        start_seconds: Time of the first frame.
        times: A time for each frame instead of even steps: a variable frame rate.
        samples: (2, N) float32 instead of the tone.
        image: Draws frame `index` at `width` x `height`.
    """
    with _same_priority(), av.open(path, "w", format=container, container_options=container_options or {}) as output:
        video = None
        if codec is not None:
            video = output.add_stream(codec, rate=fps, options=dict(options or {}))
            video.width, video.height, video.pix_fmt = width, height, pix_fmt
            # MPEG-2 knows only whole frame periods.
            video.codec_context.time_base = Fraction(1, fps) if codec == "mpeg2video" else TIME_BASE
            if sample_aspect_ratio is not None:
                video.codec_context.sample_aspect_ratio = sample_aspect_ratio
            if rotation:
                video.set_display_rotation(-rotation)
        sound = output.add_stream(audio_codec, rate=_rate(audio_codec), layout="stereo") if audio else None
        if video is not None:
            if times is None:
                times = [index / fps for index in range(round(seconds * fps))]
            for index, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(image(index, width, height), format="rgb24")
                frame.pts, frame.time_base = round((start_seconds + time) / TIME_BASE), TIME_BASE
                output.mux(video.encode(frame.reformat(format=pix_fmt)))
            output.mux(video.encode(None))
        if sound is not None:
            rate = _rate(audio_codec)
            wave = np.ascontiguousarray(tone(seconds, rate) if samples is None else samples)
            sound_frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
            sound_frame.sample_rate, sound_frame.time_base = rate, Fraction(1, rate)
            sound_frame.pts = round(start_seconds * rate)
            output.mux(sound.encode(sound_frame))
            output.mux(sound.encode(None))


@contextlib.contextmanager
def _same_priority() -> Iterator[None]:
    """Gives the thread its scheduling back: SVT-AV1, run as root, leaves it with the highest real-time priority.

    Each process started later would inherit that, Ray and engines included, and starve whoever has none.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def clip_bytes(*, container: str = "mp4", seconds: float = 2.0, **settings: object) -> bytes:
    """The bytes of a clip made by `make_clip`; see there for the settings."""
    buffer = io.BytesIO()
    make_clip(buffer, container=container, seconds=seconds, **settings)  # type: ignore[arg-type]  # checked by make_clip
    return buffer.getvalue()


def _rate(audio_codec: str) -> int:
    """Opus takes 48 kHz only."""
    return 48_000 if audio_codec == "libopus" else SAMPLE_RATE
