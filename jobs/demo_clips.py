"""Makes the demo's clips: moving shapes and tones, so that nobody's media is needed.

They cover what a catalogue holds: landscape and portrait, three codecs, a sound track or none, and sound alone.
"""

import csv
import io
import logging
import os
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from jobs.demo_scenes import Image, Sound, Times, chords, night, shapes, silence, stripes, sweep, tone

logger = logging.getLogger(__name__)

FPS = 15
RATE_HZ = 48_000
"""Of every sound but speech; the one rate that Opus, AAC and FLAC all take."""
SYNTHESISERS = ("espeak-ng", "espeak")
SENTENCE = "Welcome to the demo. A red square moves to the right, and a blue ball bounces up and down."
TITLES_NAME = "titles.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """What one clip shows and sounds like."""

    name: str
    title: str
    seconds: float
    size: tuple[int, int] | None = None
    """Width and height in pixels; None for sound alone."""
    draw: Callable[[float, int, int], Image] | None = None
    """Time in seconds, width and height to an (H, W, 3) uint8 picture."""
    sound: Callable[[Times], Sound] | None = None
    """(N,) times in seconds to (N,) float32 samples in [-1, 1]; None for no sound track."""
    spoken: str = ""
    """A sentence that takes the sound's place where a speech synthesiser is installed."""
    video_codec: str = "libx264"
    audio_codec: str = "aac"


CLIPS = (
    ClipSpec(name="shapes.mp4", title="Square and ball", seconds=4, size=(320, 240), draw=shapes, sound=tone),
    ClipSpec(name="portrait.mp4", title="Siren stripes", seconds=3, size=(180, 320), draw=stripes, sound=sweep),
    ClipSpec(name="silent.mp4", title="Ball without a sound", seconds=3, size=(320, 180), draw=shapes),
    ClipSpec(
        name="spoken.mp4", title="A word of welcome", seconds=6, size=(256, 144), draw=shapes, sound=chords,
        spoken=SENTENCE,
    ),
    ClipSpec(
        name="night.webm", title="A light at night", seconds=4, size=(256, 256), draw=night, sound=silence,
        video_codec="libvpx-vp9", audio_codec="libopus",
    ),
    ClipSpec(name="chords.flac", title="Two chords", seconds=5, sound=chords, audio_codec="flac"),
)  # fmt: skip
"""Every clip of the demo."""


def make_clips(folder: Path, *, synthesiser: str | None = None) -> list[Path]:
    """Makes the clips and their titles; what is there already stays as it is, to the byte and to its time.

    Args:
        folder: Where they go; made if missing.
        synthesiser: A command that takes `-w FILE TEXT` as espeak does; found on PATH by default; "" for none.

    Returns:
        The clips' paths; `titles.csv` lies beside them, with the columns `video_id` and `title`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if synthesiser is None:
        synthesiser = next(filter(None, map(shutil.which, SYNTHESISERS)), "")
    for spec in CLIPS:
        path = folder / spec.name
        if not path.exists():
            _write_whole(path, encode(spec, synthesiser))
    titles = io.StringIO()
    writer = csv.writer(titles, lineterminator="\n")
    writer.writerows([("video_id", "title"), *((Path(spec.name).stem, spec.title) for spec in CLIPS)])
    if not (folder / TITLES_NAME).exists():
        _write_whole(folder / TITLES_NAME, titles.getvalue().encode())
    return [folder / spec.name for spec in CLIPS]


def encode(spec: ClipSpec, synthesiser: str = "") -> bytes:
    """The clip as a file's bytes, in the container that its name's ending asks for."""
    samples, rate_hz = _sound(spec, synthesiser)
    seconds = max(spec.seconds, len(samples) / rate_hz)
    buffer = io.BytesIO()
    container_format = {"webm": "webm", "flac": "flac"}.get(spec.name.rpartition(".")[2], "mp4")
    with av.open(buffer, "w", format=container_format) as container:
        # Every stream must be there before the first packet is written.
        video = container.add_stream(spec.video_codec, rate=FPS) if spec.size else None
        audio = container.add_stream(spec.audio_codec, rate=rate_hz, layout="mono") if len(samples) else None
        if video is not None and spec.size is not None and spec.draw is not None:
            video.width, video.height = spec.size
            video.pix_fmt = "yuv420p"
            for index in range(round(seconds * FPS)):
                picture = spec.draw(index / FPS, *spec.size)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, FPS)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None:
            pcm = np.round(samples * 32767).astype(np.int16)
            sound = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = rate_hz, 0, Fraction(1, rate_hz)
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))
    return buffer.getvalue()


def _sound(spec: ClipSpec, synthesiser: str) -> tuple[Sound, int]:
    """(N,) float32 samples and their rate in Hz; none for a clip without a sound track."""
    if spec.spoken and synthesiser:
        try:
            return _speak(spec.spoken, synthesiser)
        except (OSError, subprocess.SubprocessError, wave.Error) as error:
            logger.warning("%s cannot speak (%s): %s gets a tune instead", synthesiser, error, spec.name)
    if spec.sound is None:
        return np.zeros(0, np.float32), RATE_HZ
    return spec.sound(np.arange(round(spec.seconds * RATE_HZ)) / RATE_HZ), RATE_HZ


def _speak(sentence: str, synthesiser: str) -> tuple[Sound, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run([synthesiser, "-w", str(path), sentence], check=True, capture_output=True, timeout=30)
        with wave.open(str(path), "rb") as file:
            pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
            return pcm.astype(np.float32) / np.float32(32768), file.getframerate()


def _write_whole(path: Path, content: bytes) -> None:
    """Writes beside the folder and renames, so that a killed demo leaves no half clip for the next one to describe."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
