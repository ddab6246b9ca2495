"""Frames of many kinds of stream against an independent decode: the right picture at the right time, upright."""

import functools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from actors.decode_clip import Decoded, DecodeRequest, decode_clip
from actors.decode_config import DecodeConfig
from actors.decode_frames import decode_frames
from actors.decode_media import VideoTrack, open_media
from actors.frame_size import FrameSizeRule
from actors.sampling import sample_indices
from records.errors import FailureKind
from tests.actors.reference_decode import difference, reference
from tests.clips import clip_bytes, draw

SMALL = FrameSizeRule(min_pixels=28 * 28, max_pixels=112 * 112)

STREAMS: dict[str, dict[str, object]] = {
    "h264": {"options": {"x264-params": "keyint=20:bframes=3"}},
    "h264 open GOP": {"options": {"x264-params": "keyint=20:min-keyint=20:scenecut=0:open-gop=1:bframes=3"}},
    "h264 intra refresh": {"options": {"x264-params": "keyint=20:min-keyint=20:intra-refresh=1"}},
    "h264 4:4:4": {"width": 97, "height": 63, "pix_fmt": "yuv444p"},
    "h264 10 bits": {"pix_fmt": "yuv420p10le"},
    "h264 in mpegts": {"container": "mpegts", "options": {"x264-params": "keyint=20:bframes=3"}},
    "h264 in matroska": {"container": "matroska", "start_seconds": 3.0},
    "hevc closed GOP": {"codec": "libx265", "options": {"x265-params": "keyint=20:open-gop=0:log-level=none"}},
    "hevc open GOP": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=20:min-keyint=20:scenecut=0:open-gop=1:bframes=4:log-level=none"},
    },
    "hevc 10 bits": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}},
    "vp9": {
        "codec": "libvpx-vp9",
        "container": "webm",
        "audio_codec": "libopus",
        "options": {"g": "20", "lag-in-frames": "16", "auto-alt-ref": "1"},
    },
    "vp9 odd size": {"codec": "libvpx-vp9", "width": 97, "height": 63, "options": {"g": "20"}},
    "av1": {"codec": "libsvtav1", "options": {"svtav1-params": "keyint=20"}},
    "mpeg4 with B-frames": {"codec": "mpeg4", "options": {"g": "20", "bf": "2"}},
    "mpeg4 in avi": {"codec": "mpeg4", "container": "avi", "options": {"g": "20"}},
    "mpeg2": {"codec": "mpeg2video", "container": "matroska", "fps": 25, "options": {"g": "12", "bf": "2"}},
    "motion jpeg, full range": {"codec": "mjpeg", "container": "matroska", "pix_fmt": "yuvj420p"},
    "prores": {"codec": "prores_ks", "container": "mov", "pix_fmt": "yuv422p10le"},
    "cut by an edit list": {
        "start_seconds": -0.5,
        "container_options": {"avoid_negative_ts": "disabled", "use_editlist": "1"},
    },
    "late start": {"start_seconds": 3.0},
    "variable rate": {"times": [0, 0.1, 0.15, 0.5, 0.55, 0.6, 1.7, 3.0, 3.1, 3.2, 6.0, 6.03]},
    "variable rate in matroska": {"times": [0, 0.1, 0.15, 0.5, 0.55, 1.7], "container": "matroska"},
    "turned 90": {"rotation": 90},
    "turned 180": {"rotation": 180},
    "turned 270": {"rotation": 270},
}


def decode(data: bytes, **settings: Any) -> Decoded:  # noqa: ANN401 - the config's fields
    config = DecodeConfig(**{"frame_size": SMALL, **settings})
    return decode_clip(memoryview(data), DecodeRequest(config=config, video=True, audio=True))


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    return {}


def clip(clips: dict[str, bytes], name: str) -> bytes:
    """Made once for all tests of this module."""
    if name not in clips:
        settings: dict[str, object] = {"seconds": 12, "fps": 10, **STREAMS[name]}
        clips[name] = clip_bytes(**settings)  # type: ignore[arg-type]  # checked by make_clip
    return clips[name]


referred = functools.lru_cache(maxsize=2)(reference)
"""The independent decode, once for the samplings of one stream, which come one after the other."""


@functools.lru_cache(maxsize=2)
def all_pictures(data: bytes, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Every picture of the independent decode."""
    expected = referred(data)
    return expected.pictures(list(range(len(expected.frames))), width, height)


@pytest.mark.parametrize("sampling", [{"fps": 0.4}, {"fps": 2.0}, {"fps": 50.0, "max_frames": 500}])
@pytest.mark.parametrize("name", sorted(STREAMS))
def test_pictures_times_sizes_and_rotation_equal_an_independent_decode(
    clips: dict[str, bytes], name: str, sampling: dict[str, float]
) -> None:
    data = clip(clips, name)
    decoded, expected = decode(data, **sampling), referred(data)
    frames, facts = decoded.frames, decoded.facts
    assert frames is not None
    assert facts.video_failure is None
    assert (facts.width, facts.height) == expected.display_size
    assert facts.rotation_degrees == -expected.turned % 360
    assert frames.source_frames == len(expected.frames)
    assert frames.source_fps == pytest.approx(len(expected.frames) / expected.duration_seconds, rel=0.01)
    bounds = {"fps": 2.0, "max_frames": 64, **sampling}
    assert list(frames.indices) == sample_indices(frames.source_frames, frames.source_fps, **bounds)  # type: ignore[arg-type]
    assert frames.duration_seconds == pytest.approx(expected.duration_seconds, abs=1e-6)
    assert frames.times_seconds == pytest.approx([expected.times_seconds[i] for i in frames.indices], abs=1e-9)
    assert facts.frame_times_seconds == frames.times_seconds
    height, width = frames.pixels.shape[1:3]
    assert (facts.frame_width, facts.frame_height) == (width, height)
    right = all_pictures(data, width, height)[list(frames.indices)]
    # Scaling before turning, where the reference scales after, lets swscale's two passes round in another order.
    assert difference(frames.pixels, right) <= (1.0 if expected.turned else 0.0)
    others = all_pictures(data, width, height)
    every_third = others[:, ::3, ::3].astype(np.int16)
    for picture, index in zip(frames.pixels, frames.indices, strict=True):
        assert int(np.argmin(np.abs(every_third - picture[::3, ::3]).sum(axis=(1, 2, 3)))) == index


@pytest.mark.parametrize("name", ["h264 intra refresh", "h264 open GOP", "hevc open GOP", "mpeg4 with B-frames", "vp9"])
def test_any_frame_is_exact_when_it_is_asked_for_alone(clips: dict[str, bytes], name: str) -> None:
    """So that every place in a group of pictures is jumped to."""
    data = clip(clips, name)
    every = reference(data).pictures(list(range(120)), 112, 84)
    with open_media(memoryview(data), max_pixels=1 << 30, max_duration_seconds=100) as media:
        assert isinstance(media.video, VideoTrack)
        for index in range(0, 120, 3):
            pictures, found = decode_frames(media.video, [index], width=112, height=84)
            assert found == (index,)
            np.testing.assert_array_equal(pictures[0], every[index])


def test_the_pictures_are_those_that_were_drawn_and_upright() -> None:
    for rotation in (0, 90, 180, 270):
        # The encoder is given the picture turned back, so that the player's turn makes it upright again.
        data = clip_bytes(
            seconds=1, width=112, height=112, rotation=rotation, options={"crf": "5"},
            image=lambda i, w, h, turns=rotation // 90: np.rot90(draw(i, w, h), turns).copy(),
        )  # fmt: skip
        decoded = decode(data)
        assert decoded.facts.rotation_degrees == rotation
        assert decoded.frames is not None
        drawn = np.stack([draw(index, 112, 112) for index in decoded.frames.indices])
        assert difference(decoded.frames.pixels, drawn) < 6.0


@pytest.mark.parametrize("name", ["h264", "h264 open GOP", "hevc closed GOP", "hevc open GOP", "vp9", "av1"])
def test_leaving_unreferenced_frames_out_changes_no_picture(clips: dict[str, bytes], name: str) -> None:
    data = clip(clips, name)
    for fps in (0.4, 2.0):
        full, quick = decode(data, fps=fps).frames, decode(data, fps=fps, skip_unreferenced=True).frames
        assert full is not None
        assert quick is not None
        assert full.times_seconds == quick.times_seconds
        np.testing.assert_array_equal(full.pixels, quick.pixels)


def test_threads_change_no_picture(clips: dict[str, bytes]) -> None:
    for name in ("h264 open GOP", "hevc open GOP", "vp9"):
        one, four = decode(clip(clips, name)).frames, decode(clip(clips, name), decoder_threads=4).frames
        assert one is not None
        assert four is not None
        np.testing.assert_array_equal(one.pixels, four.pixels)


def test_pixels_that_are_not_square_are_stretched() -> None:
    frames = decode(clip_bytes(width=56, height=112, sample_aspect_ratio=Fraction(2))).frames
    assert frames is not None
    assert frames.pixels.shape[1:3] == (112, 112)


def test_a_clip_of_one_frame_fills_a_temporal_patch() -> None:
    frames = decode(clip_bytes(times=[0.0], audio=False)).frames
    assert frames is not None
    assert frames.indices == (0, 0)
    np.testing.assert_array_equal(frames.pixels[0], frames.pixels[1])


def test_a_shape_that_no_processor_takes_is_unsupported_and_leaves_the_sound() -> None:
    decoded = decode(clip_bytes(width=1600, height=2, codec="libvpx-vp9", container="webm", audio_codec="libopus",
                                seconds=0.5))  # fmt: skip
    assert decoded.facts.video_failure is not None
    assert decoded.facts.video_failure.kind == FailureKind.UNSUPPORTED
    assert decoded.frames is None
    assert decoded.audio is not None
