"""Containers as they come: cover art, several streams, cut-off files, pictures, wrong names."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.decode_clip import Decoded, DecodeRequest, decode_clip
from actors.decode_config import DecodeConfig
from actors.frame_size import FrameSizeRule
from actors.sandbox import Sandbox
from records.errors import BadItemError, FailureKind
from tests.clips import clip_bytes, draw, make_clip, tone

SMALL = FrameSizeRule(min_pixels=28 * 28, max_pixels=112 * 112)


def decode(data: bytes) -> Decoded:
    config = DecodeConfig(frame_size=SMALL)
    return decode_clip(memoryview(data), DecodeRequest(config=config, video=True, audio=True))


def with_cover(*, video: bool) -> bytes:
    """An mp4 whose first stream is cover art, then sound, then a film where asked for."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 600, 600, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = output.add_stream("aac", rate=44_100, layout="stereo")
        film = None
        if video:
            film = output.add_stream("libx264", rate=10)
            film.width, film.height, film.pix_fmt = 112, 84, "yuv420p"
        output.mux(
            cover.encode(av.VideoFrame.from_ndarray(draw(0, 600, 600), format="rgb24").reformat(format="yuvj420p"))
        )
        output.mux(cover.encode(None))
        for index in range(20 if film is not None else 0):
            assert film is not None
            frame = av.VideoFrame.from_ndarray(draw(index, 112, 84), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            output.mux(film.encode(frame))
        if film is not None:
            output.mux(film.encode(None))
        wave = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone(2.0)), format="fltp", layout="stereo")
        wave.sample_rate = 44_100
        output.mux(sound.encode(wave))
        output.mux(sound.encode(None))
    return buffer.getvalue()


def test_cover_art_is_not_a_video() -> None:
    decoded = decode(with_cover(video=False))
    assert (decoded.facts.has_video, decoded.facts.has_audio) == (False, True)
    assert (decoded.facts.video_codec, decoded.facts.width, decoded.frames) == ("", 0, None)
    assert decoded.audio is not None


def test_a_film_is_found_behind_cover_art() -> None:
    decoded = decode(with_cover(video=True))
    assert (decoded.facts.video_codec, decoded.facts.width, decoded.facts.height) == ("h264", 112, 84)
    assert decoded.frames is not None
    assert decoded.frames.source_frames == 20


@pytest.fixture(scope="module")
def streamable(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An mp4 with its index in front, as the web serves it: cut off, it still opens."""
    path: Path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, seconds=6.0, container_options={"movflags": "faststart"})
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.95])
def test_half_an_upload_is_corrupt_in_both_streams_and_not_a_shorter_clip(streamable: bytes, share: float) -> None:
    whole = decode(streamable)
    assert whole.facts.video_failure is None
    assert whole.facts.audio_failure is None
    kinds = []
    try:
        facts = decode(streamable[: int(len(streamable) * share)]).facts
        kinds = [failure.kind for failure in (facts.video_failure, facts.audio_failure) if failure is not None]
    except BadItemError as error:
        kinds = [error.kind] * 2
    assert kinds == [FailureKind.CORRUPT] * 2


def test_without_its_index_an_mp4_is_corrupt() -> None:
    data = clip_bytes(seconds=4.0)
    with pytest.raises(BadItemError) as caught:
        decode(data[: len(data) // 2])
    assert caught.value.kind == FailureKind.CORRUPT
    assert "Errno" not in str(caught.value)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox[DecodeRequest, Decoded]]:
    """A segfault of the decoder must not end the test run."""
    sandbox = Sandbox(decode_clip, timeout_seconds=60, memory_limit_bytes=1 << 30)
    yield sandbox
    sandbox.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), spots=st.integers(1, 40), cut=st.floats(0.1, 1.0))
def test_damaged_files_end_in_a_result_or_a_named_failure(
    sandbox: Sandbox[DecodeRequest, Decoded], streamable: bytes, seed: int, spots: int, cut: float
) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(streamable[: int(len(streamable) * cut)])
    for spot in random.integers(0, len(data), spots):
        data[spot] = random.integers(0, 256)
    request = DecodeRequest(config=DecodeConfig(frame_size=SMALL), video=True, audio=True)
    kind, decoded = None, None
    try:
        decoded = sandbox.run(bytes(data), request)
    except BadItemError as error:
        kind = error.kind
    if decoded is None:
        assert kind in (FailureKind.CORRUPT, FailureKind.TOO_LONG)
    elif decoded.frames is not None:
        assert list(decoded.frames.times_seconds) == sorted(decoded.frames.times_seconds)
        assert decoded.facts.frame_times_seconds == decoded.frames.times_seconds


def test_a_still_picture_is_a_clip_of_one_frame() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="image2pipe") as output:
        stream = output.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 112, 84, "rgb24"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(draw(0, 112, 84), format="rgb24")))
        output.mux(stream.encode(None))
    decoded = decode(buffer.getvalue())
    assert decoded.frames is not None
    assert decoded.frames.indices == (0, 0)
    np.testing.assert_array_equal(decoded.frames.pixels[0], draw(0, 112, 84))


def test_a_size_that_changes_midway_is_followed() -> None:
    halves: list[bytes] = []
    for width, height in ((112, 84), (56, 42)):
        halves.append(clip_bytes(container="mpegts", codec="mpeg2video", fps=25, seconds=1.0, width=width,
                                 height=height, audio=False, start_seconds=len(halves) * 1.0))  # fmt: skip
    decoded = decode(b"".join(halves))
    assert decoded.facts.video_failure is None
    assert decoded.frames is not None
    assert decoded.frames.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert decoded.frames.pixels.shape[1:] == (84, 112, 3)
