"""Independent decodes to compare with: PyAV from start to end without a seek, scaled by a filter graph; and decord."""

import io
from dataclasses import dataclass
from typing import Any

import av
import av.filter
import decord
import numpy as np
import numpy.typing as npt

Pictures = npt.NDArray[np.uint8]

_TURN = {0: "", 90: "transpose=cclock,", 180: "hflip,vflip,", 270: "transpose=clock,"}
"""FFmpeg's filters for a counter-clockwise turn, as PyAV states it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Every frame of the best video stream, in order of presentation."""

    frames: list[Any]
    times_seconds: list[float]
    """From the first frame."""
    duration_seconds: float
    """By the last frame's own duration."""
    turned: int
    """Degrees counter-clockwise."""

    @property
    def display_size(self) -> tuple[int, int]:
        width, height = self.frames[0].width, self.frames[0].height
        return (height, width) if self.turned % 180 else (width, height)

    def pictures(self, indices: list[int], width: int, height: int) -> Pictures:
        """(T, H, W, 3): turned first and scaled then, through libavfilter."""
        return np.stack([_filtered(self.frames[index], _TURN[self.turned], width, height) for index in indices])


def reference(data: bytes) -> Reference:
    """Decodes a whole clip with PyAV's plainest loop."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.best("video")
        frames = sorted(container.decode(stream), key=lambda frame: frame.pts)
        start = frames[0].pts * frames[0].time_base
        last = frames[-1]
        length = last.duration * last.time_base if last.duration else 1 / stream.average_rate
        return Reference(
            frames=frames,
            times_seconds=[float(frame.pts * frame.time_base - start) for frame in frames],
            duration_seconds=float(last.pts * last.time_base - start + length),
            turned=round(frames[0].rotation) % 360,
        )


def sound_seconds(data: bytes) -> float:
    """Length of the best audio stream by its decoded frames, 0 without one."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.best("audio")
        frames = list(container.decode(stream)) if stream is not None else []
    if not frames:
        return 0.0
    last = frames[-1]
    return float((last.pts - frames[0].pts) * last.time_base + last.samples / last.sample_rate)


def decord_pictures(data: bytes, indices: list[int], width: int, height: int) -> Pictures:
    """(T, H, W, 3) through decord, which has FFmpeg of its own."""
    reader = decord.VideoReader(io.BytesIO(data), width=width, height=height, num_threads=1)
    pictures: Pictures = reader.get_batch(indices).asnumpy()
    return pictures


def difference(one: Pictures, other: Pictures) -> float:
    """Mean absolute difference of all values, of 255."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())


def _filtered(frame: av.VideoFrame, turn: str, width: int, height: int) -> Pictures:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format.name, time_base=frame.time_base
    )
    last = source
    scale = f"{width}:{height}:flags=bicubic"
    for step in [*(part for part in turn.split(",") if part), f"scale={scale}", "format=rgb24"]:
        name, _, arguments = step.partition("=")
        following = graph.add(name, arguments or None)
        last.link_to(following)
        last = following
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    source.push(frame)
    picture: Pictures = sink.pull().to_ndarray()
    return picture
