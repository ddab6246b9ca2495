"""Exactly the sampled frames of a track, at the size asked for.

A frame is recognised by its time stamp, never by counting from a seek point. decord counts, and was left for it: on
open-GOP HEVC and H.264, on MPEG-4 with B-frames and on intra refresh it returned a neighbour's picture for up to 9 of
10 frames without a word, and plain x265 streams failed with EAGAIN; see benchmarks/bench_decode.py.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from typing import Any, cast

import av
import av.error
import av.filter
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType

from actors.decode_media import VideoTrack, reason
from records.errors import BadItemError, FailureKind

_WORTH_JUMPING = 12
"""Packets that a jump must save: after it, the decoder fills its reordering queue anew."""


def decode_frames(
    track: VideoTrack, indices: Sequence[int], *, width: int, height: int, skip_unreferenced: bool = False
) -> tuple[npt.NDArray[np.uint8], tuple[int, ...]]:
    """Decodes the frames at `indices`, upright, scaled by swscale's bicubic filter.

    Colours follow the stream's matrix and range; PQ and HLG (HDR) are not tone-mapped, so they look flat.

    Args:
        track: From an open container.
        indices: Into `track.shown`, ascending; repeated ones are decoded once.
        width: Of the upright result.
        height: Of the upright result.

    Returns:
        (T, H, W, 3) uint8 RGB, and the index of each frame: the nearest one where the decoder shows none at that time
        (a stream cut before its key frame).

    Raises:
        BadItemError: `corrupt`.
    """
    wanted = sorted({track.shown[index] for index in indices})
    found: dict[int, npt.NDArray[np.uint8]] = {}
    scaled = _Scaler(height, width) if track.turns % 2 else _Scaler(width, height)
    try:
        for frame in _frames_at(track, wanted, skip_unreferenced):
            found[frame.pts] = np.rot90(scaled(frame), track.turns)
    except av.error.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise BadItemError(FailureKind.CORRUPT, f"video: {reason(error)}") from error
    if not found:
        raise BadItemError(FailureKind.CORRUPT, "video: no frame at any of the sampled times")
    stamps = [_nearest(found, track.shown[index]) for index in indices]
    pixels = np.stack([found[stamp] for stamp in stamps])
    return pixels, tuple(min(bisect_left(track.shown, stamp), len(track.shown) - 1) for stamp in stamps)


class _Scaler:
    """Turns frames into RGB at one size through libavfilter, which minds the stream's matrix, range and chroma siting.

    PyAV's own `reformat` does not mind the siting: colours at edges then lie half a pixel off.
    """

    def __init__(self, width: int, height: int) -> None:
        self._size = f"{width}:{height}:flags=bicubic"
        self._kind: tuple[int, int, str] | None = None
        self._graph: Any = None

    def __call__(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """(H, W, 3) of one frame; a stream may change its size or format midway."""
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self._kind:
            self._kind, self._graph = kind, self._build(frame)
        self._graph.push(frame)
        return cast("npt.NDArray[np.uint8]", self._graph.pull().to_ndarray())

    def _build(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph = av.filter.Graph()
        graph.threads = 1
        graph.link_nodes(
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format.name,
                time_base=frame.time_base or Fraction(1, 1000),  # any would do: no time leaves the graph
            ),
            graph.add("scale", self._size),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ).configure()
        return graph


def _nearest(found: Collection[int], wanted: int) -> int:
    return wanted if wanted in found else min(found, key=lambda stamp: abs(stamp - wanted))


def _frames_at(track: VideoTrack, wanted: Sequence[int], skip_unreferenced: bool) -> Iterator[av.VideoFrame]:
    """The frame of each wanted stamp, in order, or the first after it where the decoder shows none then."""
    decoder = _Decoder(track, frozenset(wanted) if skip_unreferenced else None)
    if not decoder.has_stamps:
        yield from _frames_by_order(track, decoder, frozenset(wanted))
        return
    missing = deque(wanted)
    while missing:
        target = missing[0]
        decoder.approach(target)
        frame = decoder.next_frame()
        while frame is not None and frame.pts < target:
            frame = decoder.next_frame()
        if frame is None or frame.pts > target:
            if decoder.jumped:
                decoder.restart()
                continue
            if frame is None:
                return
            decoder.pending.appendleft(frame)
        missing.popleft()
        yield frame


def _frames_by_order(track: VideoTrack, decoder: "_Decoder", wanted: frozenset[int]) -> Iterator[av.VideoFrame]:
    """The same for a stream without time stamps (AVI, raw): counted from its very start."""
    for stamp in track.shown:
        frame = decoder.next_frame()
        if frame is None:
            return
        if stamp in wanted:
            frame.pts = stamp
            yield frame


class _Decoder:
    """A decoder that is fed the packets of a track from any place, one frame at a time."""

    def __init__(self, track: VideoTrack, kept: frozenset[int] | None) -> None:
        """Decodes only frames in `kept`, and those that others refer to; None decodes all."""
        self._context = track.codec_context
        self._packets = track.packets
        self._kept = kept
        stamps = [packet.pts for packet in track.packets]
        self.has_stamps = None not in stamps and len(set(stamps)) == len(stamps)
        keys = sorted((p.pts, place) for place, p in enumerate(track.packets) if p.is_keyframe and p.pts is not None)
        self._key_stamps = [stamp for stamp, _ in keys]
        self._key_places = [place for _, place in keys]
        self._place = 0
        self._entry: int | None = None
        """Stamp of the key frame that was jumped to, until it has come out."""
        self._may_jump = True
        self.jumped = False
        """Whether frames before this place were left out, so that a missing frame proves nothing."""
        self.pending: deque[av.VideoFrame] = deque()
        self._context.flush_buffers()

    def approach(self, stamp: int) -> None:
        """Jumps to the last key frame shown at or before the stamp, where that saves enough."""
        number = bisect_right(self._key_stamps, stamp) - 1
        if self._may_jump and number >= 0 and self._key_places[number] > self._place + _WORTH_JUMPING:
            self._go_to(self._key_places[number])
            self._entry, self.jumped = self._key_stamps[number], True

    def restart(self) -> None:
        """Goes back to the first packet, for good: this stream's entry points are none."""
        self._go_to(0)
        self._entry, self.jumped, self._may_jump = None, False, False

    def next_frame(self) -> av.VideoFrame | None:
        """The next frame in order of presentation; None at the end."""
        frame = self._decode_next()
        if frame is not None and self._entry is not None and frame.pts >= self._entry:
            # Intra refresh marks key frames that are none: what is decoded from there looks right and is not.
            if frame.pts > self._entry or frame.pict_type != PictureType.I:
                self.restart()
                return self._decode_next()
            self._entry = None
        return frame

    def _go_to(self, place: int) -> None:
        self._context.flush_buffers()
        self.pending.clear()
        self._place = place

    def _decode_next(self) -> av.VideoFrame | None:
        while not self.pending and self._place <= len(self._packets):
            packet = self._packets[self._place] if self._place < len(self._packets) else None
            self._place += 1
            if self._kept is not None and packet is not None:
                self._context.skip_frame = "DEFAULT" if packet.pts in self._kept else "NONREF"
            self.pending.extend(self._context.decode(packet))
        return self.pending.popleft() if self.pending else None
