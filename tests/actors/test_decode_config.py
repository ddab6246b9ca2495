"""What decoding can be told: every field has its bounds, and its place in a fingerprint or among the limits."""

import dataclasses
import math
from typing import Any

import pytest

from actors.decode_config import DecodeConfig
from actors.frame_size import FrameSizeRule
from records.errors import UserError

VIDEO = {"sampling", "fps", "min_frames", "max_frames", "frame_size", "max_frame_pixels", "skip_unreferenced"}
AUDIO = {"audio_max_seconds"}
LIMITS = {"max_bytes", "max_pixels", "max_duration_seconds", "timeout_seconds", "memory_limit_bytes"}
SPEED = {"decoder_threads", "processes", "pool"}
POSITIVE = sorted(AUDIO | LIMITS | {"decoder_threads", "processes"})


def refusal(**settings: Any) -> str:  # noqa: ANN401 - the config's fields
    with pytest.raises(UserError) as caught:
        DecodeConfig(**settings)
    return str(caught.value)


def test_every_field_enters_one_fingerprint_or_changes_no_output() -> None:
    config = DecodeConfig()
    assert config.video_fingerprint().keys() == VIDEO
    assert config.audio_fingerprint().keys() == AUDIO
    assert {field.name for field in dataclasses.fields(config)} == VIDEO | AUDIO | LIMITS | SPEED


def test_a_fingerprint_holds_the_values_themselves() -> None:
    rule = FrameSizeRule(factor=32, bounds="clip", cap_tokens=7)
    config = DecodeConfig(fps=0.5, min_frames=2, max_frames=9, frame_size=rule, max_frame_pixels=None)
    assert config.video_fingerprint() == {
        "sampling": "fps",
        "fps": 0.5,
        "min_frames": 2,
        "max_frames": 9,
        "frame_size": dataclasses.asdict(rule),
        "max_frame_pixels": None,
        "skip_unreferenced": False,
    }
    assert DecodeConfig(audio_max_seconds=5.0).audio_fingerprint() == {"audio_max_seconds": 5.0}


def test_uniform_sampling_does_not_depend_on_a_rate() -> None:
    one, other = (DecodeConfig(sampling="uniform", fps=fps, min_frames=low) for fps, low in ((1.0, 1), (30.0, 8)))
    assert one.video_fingerprint() == other.video_fingerprint()
    assert one.video_fingerprint().keys() == VIDEO - {"fps", "min_frames"}


@pytest.mark.parametrize("fps", [0.0, -2.0, math.inf, math.nan])
def test_a_rate_is_positive_and_finite(fps: float) -> None:
    assert refusal(fps=fps) == f"decode: fps must be positive, not {fps}"
    assert refusal(sampling="uniform", fps=fps) == f"decode: fps must be positive, not {fps}"


@pytest.mark.parametrize("value", [0, -1, math.nan])
@pytest.mark.parametrize("name", POSITIVE)
def test_each_limit_is_positive(name: str, value: float) -> None:
    assert refusal(**{name: value}) == f"decode: {name} must be positive, not {value}"


def test_sound_has_an_end() -> None:
    assert refusal(audio_max_seconds=math.inf) == "decode: audio_max_seconds must be finite"


@pytest.mark.parametrize(("low", "high", "patch"), [(0, 8, 2), (-1, 8, 2), (9, 8, 2), (1, 1, 2), (3, 3, 4)])
def test_bounds_of_the_frames_are_in_order_and_hold_a_temporal_patch(low: int, high: int, patch: int) -> None:
    rule = FrameSizeRule(temporal_factor=patch)
    message = f"decode: needs 1 <= min_frames <= max_frames and max_frames >= {patch}, not {low} and {high}"
    assert refusal(min_frames=low, max_frames=high, frame_size=rule) == message


def test_an_unknown_sampling_and_a_frame_below_one_patch_are_refused() -> None:
    assert refusal(sampling="random") == "decode: sampling must be fps or uniform, not random"
    assert refusal(max_frame_pixels=32**2 - 1, frame_size=FrameSizeRule(factor=32)) == (
        "decode: max_frame_pixels must be at least 1024"
    )


@pytest.mark.parametrize(
    "least",
    [
        {"min_frames": 2, "max_frames": 2},
        {"min_frames": 1, "max_frames": 4, "frame_size": FrameSizeRule(temporal_factor=4)},
        {"max_frame_pixels": 32**2, "frame_size": FrameSizeRule(factor=32)},
        {"max_duration_seconds": math.inf, "timeout_seconds": math.inf},
        dict.fromkeys(POSITIVE, 1),
    ],
)
def test_what_is_just_within_the_bounds_is_taken(least: dict[str, Any]) -> None:
    config = DecodeConfig(**least)
    assert {name: getattr(config, name) for name in least} == least
