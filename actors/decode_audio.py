"""The sound of a track: mono, 16 kHz, int16, sample for sample what faster-whisper's own `decode_audio` makes.

Time zero is the first sample of the sound, not of the pictures: streams that start apart stay unaligned and gaps in the
time stamps are not filled, as in faster-whisper. No stage compares the two clocks.
"""

from collections.abc import Iterator
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from actors.decode_media import AudioTrack, reason
from records.errors import BadItemError, FailureKind
from records.media import AUDIO_RATE_HZ

_BAD_PACKET_SHARE = 0.1
"""A broken first or last packet is common and unheard; a larger share of them is a broken stream."""


def decode_audio(track: AudioTrack, *, max_seconds: float) -> npt.NDArray[np.int16]:
    """Decodes a track, mixes it down and resamples it.

    Returns:
        (N,) int16 at 16 kHz, cut at `max_seconds`.

    Raises:
        BadItemError: `corrupt` where more than a tenth of the packets, or all sound, is broken.
    """
    limit = round(max_seconds * AUDIO_RATE_HZ)
    parts: list[npt.NDArray[np.int16]] = []
    taken, problems = 0, list[str]()
    for part in _resampled(_frames(track, problems)):
        parts.append(part)
        taken += len(part)
        if taken >= limit:
            break
    if len(problems) > _BAD_PACKET_SHARE * len(track.packets) or not taken:
        what = problems[0] if problems else "no sound in it"
        raise BadItemError(FailureKind.CORRUPT, f"audio: {len(problems)} of {len(track.packets)} packets: {what}")
    return np.concatenate(parts)[:limit]


def _frames(track: AudioTrack, problems: list[str]) -> Iterator[Any]:
    """The decoded frames; what a broken packet said is appended to `problems`."""
    for packet in (*track.packets, None):
        try:
            frames = track.codec_context.decode(packet)
        except av.error.FFmpegError as error:
            # Not only InvalidDataError: the AAC decoder has error numbers of its own.
            if isinstance(error, MemoryError):
                raise
            problems.append(reason(error))
            continue
        yield from frames


def _resampled(frames: Iterator[Any]) -> Iterator[npt.NDArray[np.int16]]:
    """(N,) int16 pieces; a stream that changes its rate or layout midway goes on through a new resampler."""
    resampler, kind = None, None
    for frame in frames:
        if resampler is None or kind != (frame.format.name, frame.layout.name, frame.sample_rate):
            if resampler is not None:
                yield from _samples(resampler.resample(None))
            resampler = av.AudioResampler(format="s16", layout="mono", rate=AUDIO_RATE_HZ)
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        yield from _samples(resampler.resample(frame))
    if resampler is not None:
        yield from _samples(resampler.resample(None))


def _samples(frames: list[Any]) -> Iterator[npt.NDArray[np.int16]]:
    for frame in frames:
        yield frame.to_ndarray()[0]
