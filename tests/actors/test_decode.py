"""The stage: order, failures one by one, limits, overlap of fetching and decoding."""

import contextlib
import dataclasses
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import av
import numpy as np
import pytest

from actors.decode import Decoded, DecodeStage
from actors.decode_config import DecodeConfig
from actors.frame_size import FrameSizeRule
from actors.stage import PoolConfig
from records.errors import BadItemError, Failure, FailureKind, FatalError, TransientError, UserError
from records.items import CatalogItem, Row
from storage.fetched import FetchedMedia
from tests.actors import decode_stand_ins as stand_ins
from tests.clips import clip_bytes

SMALL = FrameSizeRule(min_pixels=28 * 28, max_pixels=112 * 112)
CONFIG = DecodeConfig(frame_size=SMALL, timeout_seconds=8.0, memory_limit_bytes=300 << 20)


media = FetchedMedia.of_bytes


def row(video_id: str, size_bytes: int | None = 1) -> Row:
    return Row(item=CatalogItem(video_id=video_id, version=1, uri=video_id, size_bytes=size_bytes, etag=""))


@pytest.fixture(scope="module")
def clips() -> Mapping[str, bytes]:
    return {
        "both": clip_bytes(seconds=2.0),
        "silent": clip_bytes(seconds=1.0, audio=False),
        "sound": clip_bytes(seconds=1.0, codec=None),
        "empty": b"",
        "text": b"this is not a video\n" * 100,
        "no packets": no_packets(),
        "long": clip_bytes(seconds=1.0, fps=1, times=[0.0, 4000.0], audio=False),
        **{f"misdeed {name.decode()}": name for name in stand_ins.ACTIONS},
    }


def no_packets() -> bytes:
    """A well-formed file with a stream and nothing in it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        output.start_encoding()
    return buffer.getvalue()


@pytest.fixture(scope="module")
def stage(clips: Mapping[str, bytes]) -> Iterator[DecodeStage]:
    stage = DecodeStage(CONFIG, lambda item: media(clips[item.video_id]), stand_ins.decode_or_misbehave)
    yield stage
    stage.close()


def kinds(outcomes: list[Decoded | Failure]) -> list[str]:
    return [outcome.kind if isinstance(outcome, Failure) else "good" for outcome in outcomes]


def test_bad_items_become_failures_and_all_others_stay_good_in_order(stage: DecodeStage) -> None:
    expected = {
        "both": "good",
        "misdeed segfault": FailureKind.CRASHED,
        "silent": "good",
        "misdeed hang": FailureKind.TIMEOUT,
        "sound": "good",
        "misdeed allocate": FailureKind.OUT_OF_MEMORY,
        "empty": FailureKind.CORRUPT,
        "text": FailureKind.CORRUPT,
        "no packets": FailureKind.CORRUPT,
        "long": FailureKind.TOO_LONG,
        "misdeed raise": FailureKind.CORRUPT,
    }
    rows = [row(name) for name in expected]
    outcomes = stage(rows, [True] * len(rows), [True] * len(rows))
    assert dict(zip(expected, kinds(outcomes), strict=True)) == expected
    for outcome in outcomes:
        assert not isinstance(outcome, Failure) or outcome.stage == "decode"
    good = outcomes[0]
    assert isinstance(good, Decoded)
    assert good.facts.duration_seconds == pytest.approx(2.0, abs=0.05)
    assert outcomes[2].facts.has_audio is False  # type: ignore[union-attr]  # checked above
    assert outcomes[4].facts.has_video is False  # type: ignore[union-attr]


def test_a_file_that_the_catalog_knows_to_be_empty_is_not_fetched() -> None:
    fetched: list[str] = []

    def fetch(item: CatalogItem) -> FetchedMedia:
        fetched.append(item.video_id)
        return media(b"")

    with contextlib.closing(DecodeStage(CONFIG, fetch, stand_ins.decode_or_misbehave)) as stage:
        rows = [row("known", size_bytes=0), row("unknown", size_bytes=None), row("also", size_bytes=0)]
        outcomes = stage(rows, [True] * 3, [True] * 3)
    assert kinds(outcomes) == [FailureKind.NO_BYTES, FailureKind.CORRUPT, FailureKind.NO_BYTES]
    assert fetched == ["unknown"]


def test_a_retry_changes_nothing(stage: DecodeStage) -> None:
    first, second = (stage([row("both")], [True], [True])[0] for _ in range(2))
    assert isinstance(first, Decoded)
    assert isinstance(second, Decoded)
    assert first.facts == second.facts
    assert first.frames is not None
    assert second.frames is not None
    np.testing.assert_array_equal(first.frames.pixels, second.frames.pixels)


def test_only_what_is_wanted_is_decoded_row_by_row(stage: DecodeStage) -> None:
    outcomes = stage([row("both")] * 4, [True, False, True, False], [True, True, False, False])
    assert [
        (outcome.frames is not None, outcome.audio is not None) for outcome in outcomes if isinstance(outcome, Decoded)
    ] == [(True, True), (False, True), (True, False), (False, False)]
    assert len({outcome.facts for outcome in outcomes if isinstance(outcome, Decoded)}) == 1


def test_no_rows_no_outcomes(stage: DecodeStage) -> None:
    assert stage([], [], []) == []


@pytest.mark.parametrize(
    ("limit", "failure"),
    [
        ({"max_bytes": 100}, FailureKind.TOO_LARGE),
        ({"max_duration_seconds": 1.0}, FailureKind.TOO_LONG),
    ],
)
def test_limits_of_the_whole_clip(clips: Mapping[str, bytes], limit: dict[str, Any], failure: FailureKind) -> None:
    stage = DecodeStage(dataclasses.replace(CONFIG, **limit), lambda item: media(clips[item.video_id]))
    try:
        assert kinds(stage([row("both")], [True], [True])) == [failure]
    finally:
        stage.close()


def test_too_many_pixels_fail_the_pictures_alone(clips: Mapping[str, bytes]) -> None:
    stage = DecodeStage(dataclasses.replace(CONFIG, max_pixels=1000), lambda item: media(clips[item.video_id]))
    try:
        (outcome,) = stage([row("both")], [True], [True])
    finally:
        stage.close()
    assert isinstance(outcome, Decoded)
    assert outcome.facts.video_failure is not None
    assert outcome.facts.video_failure.kind == FailureKind.TOO_LARGE
    assert outcome.audio is not None


def test_a_catalogued_size_over_the_limit_is_not_even_fetched() -> None:
    fetched: list[str] = []

    def fetch(item: CatalogItem) -> FetchedMedia:
        fetched.append(item.video_id)
        return media(b"")

    stage = DecodeStage(CONFIG, fetch)
    try:
        assert kinds(stage([row("a", size_bytes=2 << 30)], [True], [True])) == [FailureKind.TOO_LARGE]
    finally:
        stage.close()
    assert fetched == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadItemError(FailureKind.NOT_FOUND, "gone"), FailureKind.NOT_FOUND),
        (BadItemError(FailureKind.FORBIDDEN, "no"), FailureKind.FORBIDDEN),
        (TransientError(FailureKind.THROTTLED, "slow down"), FailureKind.THROTTLED),
    ],
)
def test_what_fetching_says_becomes_the_rows_failure(error: Exception, kind: FailureKind) -> None:
    def fetch(item: CatalogItem) -> FetchedMedia:
        if item.video_id == "bad":
            raise error
        return media(clip_bytes(seconds=0.5))

    stage = DecodeStage(CONFIG, fetch)
    try:
        outcomes = stage([row("a"), row("bad"), row("b")], [True] * 3, [True] * 3)
    finally:
        stage.close()
    assert kinds(outcomes) == ["good", kind, "good"]
    assert outcomes[1] == Failure(stage="decode", kind=kind, message=str(error))


def test_a_fatal_error_of_fetching_is_raised() -> None:
    def fetch(item: CatalogItem) -> FetchedMedia:
        raise FatalError("the store is gone")

    stage = DecodeStage(CONFIG, fetch)
    try:
        with pytest.raises(FatalError):
            stage([row("a")], [True], [True])
    finally:
        stage.close()


def test_calls_at_once_have_a_process_each(clips: Mapping[str, bytes]) -> None:
    config = dataclasses.replace(CONFIG, processes=2)
    stage = DecodeStage(config, lambda item: media(clips[item.video_id]), stand_ins.decode_or_misbehave)
    results: dict[str, list[str]] = {}

    def call(name: str) -> Callable[[], None]:
        def run() -> None:
            results[name] = kinds(stage([row(name)] * 3, [True] * 3, [True] * 3))

        return run

    threads = [threading.Thread(target=call(name)) for name in ("both", "misdeed segfault")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stage.close()
    assert results == {"both": ["good"] * 3, "misdeed segfault": ["crashed"] * 3}


def test_closing_twice_is_safe_and_calls_after_it_are_fatal(clips: Mapping[str, bytes]) -> None:
    stage = DecodeStage(CONFIG, lambda item: media(clips[item.video_id]))
    stage.close()
    stage.close()
    with pytest.raises(FatalError):
        stage([row("both")], [True], [True])


def test_fingerprints_hold_what_changes_output_and_no_limit() -> None:
    video, audio = CONFIG.video_fingerprint(), CONFIG.audio_fingerprint()
    for speed_or_limit in (
        {"timeout_seconds": 9.0}, {"memory_limit_bytes": 1 << 31}, {"max_bytes": 5}, {"max_pixels": 5},
        {"max_duration_seconds": 5.0}, {"processes": 9}, {"decoder_threads": 3}, {"pool": PoolConfig(batch_rows=3)},
    ):  # fmt: skip
        changed = dataclasses.replace(CONFIG, **speed_or_limit)
        assert (changed.video_fingerprint(), changed.audio_fingerprint()) == (video, audio)
    for output in (
        {"fps": 1.0}, {"min_frames": 6}, {"max_frames": 32}, {"sampling": "uniform"}, {"max_frame_pixels": None},
        {"frame_size": FrameSizeRule()}, {"skip_unreferenced": True},
    ):  # fmt: skip
        changed = dataclasses.replace(CONFIG, **output)
        assert changed.video_fingerprint() != video
        assert changed.audio_fingerprint() == audio
    changed = dataclasses.replace(CONFIG, audio_max_seconds=60.0)
    assert changed.audio_fingerprint() != audio
    assert changed.video_fingerprint() == video


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0.0}, {"min_frames": 0}, {"min_frames": 9, "max_frames": 8}, {"max_frames": 1, "min_frames": 1},
        {"sampling": "random"}, {"timeout_seconds": 0.0}, {"processes": 0}, {"max_frame_pixels": 10},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_in_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        DecodeConfig(**wrong)
    assert "\n" not in str(caught.value)
