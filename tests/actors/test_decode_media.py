"""The real clips, through the whole stage, against independent decodes by PyAV and by decord."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from actors.decode import Decoded, DecodeStage
from actors.decode_config import DecodeConfig
from records.errors import Failure, FailureKind
from records.items import CatalogItem, Row
from storage.fetched import FetchedMedia
from tests.actors.reference_decode import decord_pictures, difference, reference
from tests.media import needs_media, shared_media

pytestmark = needs_media

FOLDER = shared_media() or Path("absent")
FILES = sorted(path.name for path in FOLDER.glob("*"))
SILENT = {
    "av1_video.mkv", "corrupted.mp4", "h264_10bits.mp4", "h265_video.mp4", "nasa_13013_hdr.mp4",
    "nasa_13013_rotated.mp4", "test_non_zero_start.mp4", "testsrc2_mpeg4.avi",
    "testsrc2_odd_height_and_width_vp9.mp4", "video_180.mov", "video_90.mov",
}  # fmt: skip
CLOCKWISE = {"nasa_13013_rotated.mp4": 270, "video_90.mov": 90, "video_180.mov": 180}
GOOD_VIDEOS = [name for name in FILES if name not in ("corrupted.mp4", "jfk.flac")]

TOLERANCE = dict.fromkeys(CLOCKWISE, 0.5)
"""Mean difference of 255. Stored pictures are scaled before they are turned, the references' after: swscale's two
passes then round in another order. All others must be equal to the bit."""
DECORD_ERRS = {"h265_video.mp4"}
"""There decord2 3.4 returns frames 0, 4, 7 and 7 where 0, 3, 6 and 9 are asked for (an open GOP)."""


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Decoded | Failure]]:
    """All files in one call."""
    stage = DecodeStage(DecodeConfig(), lambda item: FetchedMedia.of_bytes(Path(item.uri).read_bytes()))
    rows = [
        Row(
            item=CatalogItem(
                video_id=name,
                version=1,
                uri=str(FOLDER / name),
                size_bytes=(FOLDER / name).stat().st_size,
                etag="",
            )
        )
        for name in FILES
    ]
    yield dict(zip(FILES, stage(rows, [True] * len(rows), [True] * len(rows)), strict=True))
    stage.close()


def test_every_file_has_an_outcome_and_only_the_broken_one_an_error(outcomes: dict[str, Decoded | Failure]) -> None:
    assert len(outcomes) == 18
    errors = {}
    for name, outcome in outcomes.items():
        assert isinstance(outcome, Decoded)
        for failure in (outcome.facts.video_failure, outcome.facts.audio_failure):
            if failure is not None:
                errors[name] = (failure.stage, failure.kind)
        assert outcome.facts.has_audio == (outcome.audio is not None) == (name not in SILENT)
        assert outcome.facts.has_video == (name != "jfk.flac")
        assert (outcome.frames is not None) == (name in GOOD_VIDEOS)
    assert errors == {"corrupted.mp4": ("decode", FailureKind.CORRUPT)}


@pytest.mark.parametrize("name", GOOD_VIDEOS)
def test_frames_sizes_rotation_and_durations_equal_independent_decodes(
    outcomes: dict[str, Decoded | Failure], name: str
) -> None:
    data, outcome = (FOLDER / name).read_bytes(), outcomes[name]
    assert isinstance(outcome, Decoded)
    frames, facts, expected = outcome.frames, outcome.facts, reference(data)
    assert frames is not None
    assert facts.rotation_degrees == CLOCKWISE.get(name, 0) == -expected.turned % 360
    assert (facts.width, facts.height) == expected.display_size
    assert frames.source_frames == len(expected.frames)
    assert frames.times_seconds == pytest.approx([expected.times_seconds[i] for i in frames.indices], abs=1e-9)
    assert frames.duration_seconds == pytest.approx(expected.duration_seconds, abs=1e-6)
    with av.open(str(FOLDER / name)) as container:
        stream = container.streams.best("video")
        assert facts.fps == pytest.approx(float(stream.average_rate), rel=0.01)
        assert facts.duration_seconds == pytest.approx(container.duration / av.time_base, abs=0.07)
    height, width = frames.pixels.shape[1:3]
    indices = list(frames.indices)
    tolerance = TOLERANCE.get(name, 0.0)
    assert difference(frames.pixels, expected.pictures(indices, width, height)) <= tolerance
    if name not in DECORD_ERRS:
        assert difference(frames.pixels, decord_pictures(data, indices, width, height)) <= tolerance


def test_facts_are_the_same_whatever_is_wanted(outcomes: dict[str, Decoded | Failure]) -> None:
    names = [name for name in FILES if name != "corrupted.mp4"]
    stage = DecodeStage(DecodeConfig(), lambda item: FetchedMedia.of_bytes((FOLDER / item.video_id).read_bytes()))
    try:
        rows = [Row(item=CatalogItem(video_id=name, version=1, uri="", size_bytes=1, etag="")) for name in names]
        for video, audio in ((False, True), (False, False)):
            for name, outcome in zip(names, stage(rows, [video] * 17, [audio] * 17), strict=True):
                full = outcomes[name]
                assert isinstance(outcome, Decoded)
                assert isinstance(full, Decoded)
                assert outcome.facts == full.facts
                assert (outcome.frames is not None) == (video and full.frames is not None)
                assert (outcome.audio is not None) == (audio and full.audio is not None)
    finally:
        stage.close()


def test_decoding_again_gives_the_same_bits(outcomes: dict[str, Decoded | Failure]) -> None:
    name = "dj_video1.mp4"
    stage = DecodeStage(DecodeConfig(), lambda item: FetchedMedia.of_bytes((FOLDER / name).read_bytes()))
    try:
        row = Row(item=CatalogItem(video_id=name, version=1, uri="", size_bytes=1, etag=""))
        again, before = stage([row], [True], [True])[0], outcomes[name]
    finally:
        stage.close()
    assert isinstance(again, Decoded)
    assert isinstance(before, Decoded)
    assert again.frames is not None
    assert before.frames is not None
    np.testing.assert_array_equal(again.frames.pixels, before.frames.pixels)
