"""What a container holds, from reading all its packets once: tracks, times, rotation, and the packets themselves.

Packets are kept, so that decoding never seeks in the file: it feeds the decoder from whichever key frame it likes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import av
import av.error

from records.errors import BadItemError, FailureKind

Track = TypeVar("Track")

_RATE_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTrack:
    """The best video stream: what FFmpeg's own choice is, cover art left out."""

    codec_context: av.VideoCodecContext
    """PyAV's decoder, nothing fed to it yet."""
    packets: tuple[av.Packet, ...]
    """In decoding order."""
    shown: tuple[int, ...]
    """Time stamp of each frame that is shown, in order of presentation, in units of `time_base`; no two are equal."""
    time_base: Fraction
    duration_seconds: float
    fps: float
    """Average frames a second."""
    width: int
    """As stored, before rotation."""
    height: int
    turns: int
    """Quarter turns, counter-clockwise, that bring the stored picture upright."""
    pixel_aspect: Fraction
    """Width of a stored pixel by its height, 1 where the stream does not say."""

    @property
    def display_size(self) -> tuple[int, int]:
        """(width, height) upright, in stored pixels."""
        return (self.height, self.width) if self.turns % 2 else (self.width, self.height)

    @property
    def display_shape(self) -> tuple[int, int]:
        """(width, height) upright, in square pixels."""
        width = max(round(self.width * self.pixel_aspect), 1)
        return (self.height, width) if self.turns % 2 else (width, self.height)

    def time_seconds(self, stamp: int) -> float:
        """Seconds from the first shown frame."""
        return float((stamp - self.shown[0]) * self.time_base)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTrack:
    """The best audio stream."""

    codec_context: av.AudioCodecContext
    packets: tuple[av.Packet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An open container, read to its end. A track is None where there is none, or an error where it is unusable."""

    video: VideoTrack | BadItemError | None
    audio: AudioTrack | BadItemError | None
    video_codec: str
    audio_codec: str
    audio_seconds: float
    """Of the sound, by its packets: known without decoding it."""
    duration_seconds: float
    """Of the longest stream."""


@contextmanager
def open_media(data: memoryview, *, max_pixels: int, max_duration_seconds: float, threads: int = 1) -> Iterator[Media]:
    """Opens a container in memory and reads all packets of its best video and audio stream.

    Raises:
        BadItemError: `corrupt` where nothing can be read or nothing is in it, `too_long`.
    """
    try:
        container = av.open(_Reader(data), metadata_errors="ignore")
    except av.error.FFmpegError as error:
        raise BadItemError(FailureKind.CORRUPT, f"no media file: {reason(error)}") from error
    with container:
        streams = [_best_video(container), container.streams.best("audio")]
        if container.duration:
            _check_duration(container.duration / av.time_base, max_duration_seconds)
        packets = _read_packets(container, [stream for stream in streams if stream is not None])
        video_packets, audio_packets = (packets.get(stream.index, ()) if stream else () for stream in streams)
        if not video_packets and not audio_packets:
            raise BadItemError(FailureKind.CORRUPT, "holds neither pictures nor sound")
        video_seconds, audio_seconds = (
            _span_seconds(streams[0], video_packets),
            _span_seconds(streams[1], audio_packets),
        )
        _check_duration(max(video_seconds, audio_seconds), max_duration_seconds)
        video = _attempt(_video_track, streams[0], video_packets, len(data), max_pixels, threads)
        audio = _attempt(_audio_track, streams[1], audio_packets, len(data))
        yield Media(
            video=video,
            audio=audio,
            video_codec=_codec_name(streams[0]) if video is not None else "",
            audio_codec=_codec_name(streams[1]) if audio is not None else "",
            audio_seconds=audio_seconds,
            duration_seconds=max(video_seconds, audio_seconds),
        )


class _Reader:
    """A seekable file over bytes that are not copied."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else min(self._position + size, len(self._data))
        part = bytes(self._data[self._position : end])
        self._position = max(end, self._position)
        return part

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, len(self._data))[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position


def reason(error: av.error.FFmpegError) -> str:
    """What FFmpeg says, without the number and the function's name."""
    return str(error.strerror or error)


def _best_video(container: av.container.InputContainer) -> av.VideoStream | None:
    """FFmpeg's best video stream that is not cover art."""
    best = container.streams.best("video")
    if best is None or not _is_picture(best):
        return best
    return next((stream for stream in container.streams.video if not _is_picture(stream)), None)


def _is_picture(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _read_packets(
    container: av.container.InputContainer, streams: list[av.stream.Stream]
) -> dict[int, tuple[av.Packet, ...]]:
    """The packets of each stream, by its index, in decoding order."""
    packets: dict[int, list[av.Packet]] = {}
    try:
        for packet in container.demux(streams) if streams else ():
            if packet.size:
                packets.setdefault(packet.stream_index, []).append(packet)
    except av.error.FFmpegError as error:
        raise BadItemError(FailureKind.CORRUPT, f"cannot be read to its end: {reason(error)}") from error
    return {index: tuple(parts) for index, parts in packets.items()}


def _check_duration(seconds: float, limit: float) -> None:
    if seconds > limit:
        raise BadItemError(FailureKind.TOO_LONG, f"{seconds:.1f} s long, more than {limit:g} s")


def _attempt(
    build: Callable[..., Track],
    stream: av.stream.Stream | None,
    packets: tuple[av.Packet, ...],
    total_bytes: int,
    *more: int,
) -> Track | BadItemError | None:
    """A track, or what is wrong with it, or None where there is none."""
    try:
        if stream is not None:
            _check_whole(stream, total_bytes)
        return build(stream, packets, *more) if packets else None
    except BadItemError as error:
        return error


def _check_whole(stream: av.stream.Stream, total_bytes: int) -> None:
    """An index that points past the end of the file: half an upload. Readers would pass over it without a word."""
    entries = stream.index_entries
    if len(entries) and entries[-1].pos + entries[-1].size > total_bytes:
        raise BadItemError(FailureKind.CORRUPT, "cut off: the file ends before its last packet")


def _video_track(stream: av.VideoStream, packets: tuple[av.Packet, ...], max_pixels: int, threads: int) -> VideoTrack:
    context = _decoder(stream)
    if context.width * context.height > max_pixels:
        raise BadItemError(
            FailureKind.TOO_LARGE, f"pictures of {context.width}x{context.height}, more than {max_pixels} pixels"
        )
    context.thread_count = threads
    first = _first_frame(context, packets)
    shown = tuple(sorted({_stamp(packet) for packet in packets if not packet.is_discard}))
    if not shown:
        raise BadItemError(FailureKind.CORRUPT, "its edit list shows no frame")
    duration = _span_seconds(stream, packets)
    return VideoTrack(
        codec_context=context,
        packets=packets,
        shown=shown,
        time_base=stream.time_base,
        duration_seconds=duration,
        fps=_average_rate(stream, len(shown), duration),
        width=first.width,
        height=first.height,
        turns=round(first.rotation / 90) % 4,
        pixel_aspect=stream.sample_aspect_ratio or Fraction(1),
    )


def _audio_track(stream: av.AudioStream, packets: tuple[av.Packet, ...]) -> AudioTrack:
    return AudioTrack(codec_context=_decoder(stream), packets=packets)


def _decoder(stream: av.stream.Stream) -> av.CodecContext:
    if stream.codec_context is None:
        raise BadItemError(FailureKind.UNSUPPORTED, f"no decoder for stream {stream.index}")
    return stream.codec_context


def _codec_name(stream: av.stream.Stream) -> str:
    """The codec's canonical name (`av1`), not its decoder's (`libdav1d`)."""
    return str(stream.codec_context.codec.canonical_name) if stream.codec_context is not None else "unknown"


def _first_frame(context: av.VideoCodecContext, packets: tuple[av.Packet, ...]) -> av.VideoFrame:
    """The first frame that decodes: only frames know the rotation. Leaves the decoder as it was."""
    problem = "no frame in it"
    for packet in (*packets, None):
        try:
            frames = context.decode(packet)
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            problem = reason(error)
            continue
        if frames:
            context.flush_buffers()
            return frames[0]
    raise BadItemError(FailureKind.CORRUPT, f"no frame can be decoded: {problem}")


def _stamp(packet: av.Packet) -> int:
    """When the packet is shown; AVI and raw streams give only its place in decoding order."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    return int(stamp) if stamp is not None else 0


def _span_seconds(stream: av.stream.Stream | None, packets: tuple[av.Packet, ...]) -> float:
    """From the first shown packet's start to the last one's end; 0 without packets."""
    if stream is None or not packets:
        return 0.0
    shown = [packet for packet in packets if not packet.is_discard] or list(packets)
    start = min(_stamp(packet) for packet in shown)
    last = max(shown, key=_stamp)
    length = last.duration * stream.time_base if last.duration else 0
    if not length and stream.type == "video" and stream.average_rate:
        length = 1 / stream.average_rate
    return float((_stamp(last) - start) * stream.time_base + length)


def _average_rate(stream: av.VideoStream, frames: int, duration_seconds: float) -> float:
    """Frames a second: what the container says where that fits what is in it, else what is in it."""
    said = float(stream.average_rate or 0)
    counted = frames / duration_seconds if duration_seconds > 0 else said
    if not said or abs(said - counted) > _RATE_TOLERANCE * counted:
        return counted or 1.0
    return said
