"""What is asked of a clip is what comes back: facts of both streams, frames by the config's numbers, failures apart.

Pictures and sounds themselves are compared in `test_decode_frames.py` and `test_decode_audio.py`.
"""

import dataclasses
import io
from typing import Any

import av
import pytest

from actors.decode_clip import Decoded, DecodeRequest, decode_clip
from actors.decode_config import DecodeConfig
from actors.frame_size import FrameSizeRule
from records.errors import BadItemError, Failure, FailureKind
from records.outcomes import MediaFacts
from tests.clips import clip_bytes

SMALL = FrameSizeRule(min_pixels=28 * 28, max_pixels=112 * 112)


@pytest.fixture(scope="module")
def both() -> bytes:
    """3 s of 112x84 at 10 frames a second, with sound."""
    return clip_bytes(seconds=3.0)


def decode(data: bytes, *, video: bool = True, audio: bool = True, **settings: Any) -> Decoded:  # noqa: ANN401 - the config's fields
    config = DecodeConfig(**{"frame_size": SMALL, **settings})
    return decode_clip(memoryview(data), DecodeRequest(config=config, video=video, audio=audio))


def taken(data: bytes, **settings: Any) -> list[int]:  # noqa: ANN401 - as above
    """Which frames."""
    frames = decode(data, audio=False, **settings).frames
    assert frames is not None
    return list(frames.indices)


def spoilt(data: bytes, *kinds: str) -> bytes:
    """The clip with all packets of these streams overwritten, but for the first of each."""
    changed = bytearray(data)
    with av.open(io.BytesIO(data)) as container:
        for packet in container.demux([container.streams.best(kind) for kind in kinds]):
            if packet.size and packet.dts > 0:
                changed[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    return bytes(changed)


def test_facts_are_those_of_the_clip(both: bytes) -> None:
    facts = decode(both).facts
    assert facts == MediaFacts(
        duration_seconds=facts.duration_seconds,
        has_video=True,
        has_audio=True,
        width=112,
        height=84,
        fps=10.0,
        video_codec="h264",
        audio_codec="aac",
        frame_times_seconds=facts.frame_times_seconds,
        frame_width=112,
        frame_height=84,
        audio_seconds=facts.audio_seconds,
    )
    assert facts.duration_seconds == max(3.0, facts.audio_seconds)
    assert facts.audio_seconds == pytest.approx(3.0, abs=0.05)
    assert facts.frame_times_seconds == pytest.approx([0.0, 0.6, 1.2, 1.7, 2.3, 2.9])


def test_frames_carry_the_numbers_of_their_stream(both: bytes) -> None:
    decoded = decode(both, audio=False)
    frames = decoded.frames
    assert frames is not None
    assert (frames.source_fps, frames.source_frames, frames.duration_seconds) == (10.0, 30, 3.0)
    assert frames.times_seconds == decoded.facts.frame_times_seconds == tuple(index / 10 for index in frames.indices)
    assert frames.pixels.shape == (6, decoded.facts.frame_height, decoded.facts.frame_width, 3)


@pytest.mark.parametrize(
    ("settings", "indices"),
    [
        ({"fps": 1.0, "min_frames": 2}, [0, 29]),
        ({"fps": 1.0, "min_frames": 6}, [0, 6, 12, 17, 23, 29]),
        ({"fps": 10.0, "max_frames": 5}, [0, 10, 19, 29]),
        ({"fps": 100.0, "max_frames": 100}, list(range(30))),
        ({"sampling": "uniform", "fps": 1.0, "max_frames": 10}, [0, 3, 6, 10, 13, 16, 19, 23, 26, 29]),
        ({"frame_size": FrameSizeRule(temporal_factor=5, min_pixels=784)}, [0, 7, 14, 22, 29]),
    ],
)
def test_the_configs_numbers_choose_the_frames(both: bytes, settings: dict[str, Any], indices: list[int]) -> None:
    assert taken(both, **settings) == indices


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"max_frame_pixels": None}, (112, 84)),
        ({"max_frame_pixels": 56 * 56}, (56, 28)),
        ({"frame_size": FrameSizeRule(min_pixels=200 * 200)}, (252, 196)),
        # Pixels of all frames together: more of them are smaller.
        ({"frame_size": FrameSizeRule(min_pixels=1, max_pixels=4 * 112 * 84, bounds="clip")}, (84, 56)),
        ({"frame_size": FrameSizeRule(min_pixels=1, max_pixels=4 * 112 * 84, bounds="clip"), "fps": 1.0}, (112, 84)),
    ],
)
def test_the_configs_numbers_choose_the_size(both: bytes, settings: dict[str, Any], size: tuple[int, int]) -> None:
    decoded = decode(both, audio=False, **settings)
    assert decoded.frames is not None
    assert (decoded.facts.frame_width, decoded.facts.frame_height) == size
    assert decoded.frames.pixels.shape[2:0:-1] == size


def test_broken_streams_fail_apart_in_one_line_each(both: bytes) -> None:
    decoded = decode(spoilt(both, "video", "audio"))
    assert (decoded.frames, decoded.audio) == (None, None)
    for failure in (decoded.facts.video_failure, decoded.facts.audio_failure):
        assert failure is not None
        assert (failure.stage, failure.kind) == ("decode", FailureKind.CORRUPT)
        assert failure.message
        assert "\n" not in failure.message
    assert dataclasses.replace(decoded.facts, video_failure=None, audio_failure=None) == decode(both).facts


def test_a_stream_that_nobody_wants_is_not_decoded(both: bytes) -> None:
    decoded = decode(spoilt(both, "video", "audio"), video=False, audio=False)
    assert decoded.facts == decode(both).facts


def test_pictures_over_the_limit_fail_and_leave_the_sound(both: bytes) -> None:
    decoded = decode(both, max_pixels=112 * 84 - 1)
    message = "pictures of 112x84, more than 9407 pixels"
    assert decoded.facts.video_failure == Failure(stage="decode", kind=FailureKind.TOO_LARGE, message=message)
    assert (decoded.facts.has_video, decoded.facts.video_codec, decoded.facts.width) == (True, "h264", 0)
    assert decoded.audio is not None
    assert decode(both, max_pixels=112 * 84).frames is not None


def test_a_shape_that_no_processor_takes_is_named_with_its_reason() -> None:
    data = clip_bytes(width=1000, height=2, codec="libvpx-vp9", container="webm", audio=False, seconds=0.2)
    failure = decode(data, video=False).facts.video_failure
    message = "video of 1000x2: one side is 500 times the other, more than the processor's 200"
    assert failure == Failure(stage="decode", kind=FailureKind.UNSUPPORTED, message=message)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"max_duration_seconds": 2.5}, FailureKind.TOO_LONG, r"^3\.\d s long, more than 2\.5 s$"),
        ({}, FailureKind.CORRUPT, "^no media file: Invalid data found when processing input$"),
    ],
)
def test_what_concerns_the_whole_clip_is_raised(
    both: bytes, settings: dict[str, Any], kind: FailureKind, message: str
) -> None:
    with pytest.raises(BadItemError, match=message) as caught:
        decode(both if settings else b"no clip" * 100, **settings)
    assert caught.value.kind == kind
