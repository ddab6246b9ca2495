"""Frame sizes against the video processors of transformers, which vLLM calls."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoVideoProcessor
from transformers.models.qwen2_vl import video_processing_qwen2_vl as qwen2
from transformers.models.qwen3_vl import video_processing_qwen3_vl as qwen3

from actors.frame_size import FrameSizeRule, frame_size_rule, smart_resize_clip, smart_resize_frame
from records.errors import UserError

QWEN25 = {"min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
"""The numbers in Qwen2.5-VL's published preprocessor_config.json."""
QWEN3 = {
    "video_processor_type": "Qwen3VLVideoProcessor",
    "size": {"shortest_edge": 4096, "longest_edge": 25_165_824},
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
}
"""The numbers in Qwen3-VL's published video_preprocessor_config.json."""

sides = st.integers(1, 5000)
frame_counts = st.integers(2, 300)
shapes = [(1280, 720), (720, 1280), (640, 360), (321, 241), (97, 63), (28, 28), (20, 1500), (4096, 2160), (1, 150)]


@given(width=sides, height=sides, low=st.integers(1, 400_000), more=st.integers(0, 13_000_000))
def test_frame_rule_equals_transformers_smart_resize(width: int, height: int, low: int, more: int) -> None:
    arguments = {"min_pixels": low, "max_pixels": low + more}
    try:
        theirs = qwen2.smart_resize(height, width, 28, **arguments)
    except ValueError:
        with pytest.raises(ValueError, match="times the other"):
            smart_resize_frame(width, height, 28, **arguments)
        return
    assert smart_resize_frame(width, height, 28, **arguments) == theirs[::-1]


@given(frames=st.integers(1, 300), width=sides, height=sides, low=st.integers(1, 400_000), more=st.integers(0, 10**8))
def test_clip_rule_equals_transformers_smart_resize(frames: int, width: int, height: int, low: int, more: int) -> None:
    arguments = {"min_pixels": low, "max_pixels": low + more}
    try:
        theirs = qwen3.smart_resize(frames, height, width, 2, 32, **arguments)
    except ValueError:
        with pytest.raises(ValueError, match=r"times the other|less than one temporal patch"):
            smart_resize_clip(frames, width, height, 32, 2, **arguments)
        return
    assert smart_resize_clip(frames, width, height, 32, 2, **arguments) == theirs[::-1]


def write_model(folder: Path, file: str, numbers: dict[str, Any], model_type: str) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / file).write_text(json.dumps(numbers))
    return folder


FOLDERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "qwen2.5, image file only": ("preprocessor_config.json", QWEN25, "qwen2_5_vl"),
    "qwen2, sizes": ("video_preprocessor_config.json", {"size": {"shortest_edge": 9000, "longest_edge": 90_000}},
                     "qwen2_vl"),
    "qwen2.5, capped": ("preprocessor_config.json", {**QWEN25, "cap_pixels_per_frame": True, "max_video_tokens": 4000},
                        "qwen2_5_vl"),
    "qwen3": ("video_preprocessor_config.json", QWEN3, "qwen3_vl"),
    "qwen3, nested": ("processor_config.json", {"video_processor": QWEN3}, "qwen3_vl"),
    "qwen3, defaults": ("video_preprocessor_config.json", {"video_processor_type": "Qwen3VLVideoProcessor"},
                        "qwen3_vl"),
    "qwen3, capped": ("video_preprocessor_config.json",
                      {**QWEN3, "cap_pixels_per_frame": True, "max_video_tokens": 200}, "qwen3_vl_moe"),
}  # fmt: skip


@pytest.fixture(params=sorted(FOLDERS))
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FrameSizeRule, Any]:
    """The rule read from a folder, and the processor that transformers makes of the same folder."""
    file, numbers, model_type = FOLDERS[request.param]
    folder = write_model(tmp_path, file, numbers, model_type)
    if "video_processor_type" not in numbers and "video_processor" not in numbers:
        return frame_size_rule(folder), qwen2.Qwen2VLVideoProcessor.from_pretrained(folder)
    return frame_size_rule(folder), AutoVideoProcessor.from_pretrained(folder)


def processed_size(processor: qwen2.Qwen2VLVideoProcessor, frames: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) that the processor itself makes of real frames."""
    video = torch.zeros((frames, 3, height, width), dtype=torch.uint8)
    output = processor(videos=[video], do_sample_frames=False, return_tensors="pt")
    _, grid_height, grid_width = output["video_grid_thw"][0].tolist()
    return grid_width * processor.patch_size, grid_height * processor.patch_size


@pytest.mark.parametrize(("width", "height"), [(640, 360), (321, 241), (97, 63)])
@pytest.mark.parametrize("frames", [2, 4, 16])
def test_the_processor_of_the_folder_resizes_as_the_rule_says_and_leaves_our_frames_alone(
    model: tuple[FrameSizeRule, Any], width: int, height: int, frames: int
) -> None:
    rule, processor = model
    theirs = processed_size(processor, frames, width, height)
    assert rule.processor_size(frames=frames, width=width, height=height) == theirs
    assert rule.target_size(frames=frames, width=width, height=height) == theirs
    for max_frame_pixels in (None, 20_000, 100_000):
        ours = rule.target_size(frames=frames, width=width, height=height, max_frame_pixels=max_frame_pixels)
        assert processed_size(processor, frames, *ours) == ours


@given(
    frames=frame_counts,
    width=sides,
    height=sides,
    max_frame_pixels=st.one_of(st.none(), st.integers(1024, 2_000_000)),
    bounds=st.sampled_from(["frame", "clip"]),
    low=st.integers(1, 200_000),
    more=st.integers(0, 30_000_000),
)
def test_the_rule_leaves_its_own_result_alone(
    frames: int,
    width: int,
    height: int,
    max_frame_pixels: int | None,
    bounds: Literal["frame", "clip"],
    low: int,
    more: int,
) -> None:
    factor = 28 if bounds == "frame" else 32
    rule = FrameSizeRule(factor=factor, min_pixels=low, max_pixels=low + more, bounds=bounds)
    try:
        size = rule.target_size(frames=frames, width=width, height=height, max_frame_pixels=max_frame_pixels)
    except ValueError:
        # Only shapes of over 200:1, or bounds so tight that no multiple of the factor lies within them.
        assert max(width, height) / min(width, height) > 200 or more < 4 * low + 600 * factor**2 * frames
        return
    assert rule.processor_size(frames=frames, width=size[0], height=size[1]) == size
    assert size[0] % factor == size[1] % factor == 0


@pytest.mark.parametrize(("width", "height"), shapes)
def test_shapes_are_kept_nearly(width: int, height: int) -> None:
    new_width, new_height = FrameSizeRule().target_size(frames=16, width=width, height=height)
    assert abs(new_width / new_height / (width / height) - 1) <= max(28 / new_width, 28 / new_height) * 1.1


def test_own_limit_bounds_the_pixels_of_a_frame() -> None:
    rule = FrameSizeRule(min_pixels=3136, max_pixels=12_845_056)
    free = rule.target_size(frames=16, width=1920, height=1080)
    held = rule.target_size(frames=16, width=1920, height=1080, max_frame_pixels=200_000)
    assert free == (1932, 1092)
    assert 150_000 < held[0] * held[1] <= 200_000


@pytest.mark.parametrize(
    ("file", "numbers", "model_type", "says"),
    [
        ("nothing.json", {}, "qwen2_5_vl", "not a vision-language model's folder"),
        ("preprocessor_config.json", {}, "llava", "no frame size rule for llava"),
        ("preprocessor_config.json", {}, "", "unnamed"),
    ],
)
def test_other_folders_are_refused_in_one_line(
    tmp_path: Path, file: str, numbers: dict[str, Any], model_type: str, says: str
) -> None:
    with pytest.raises(UserError, match=says) as caught:
        frame_size_rule(write_model(tmp_path, file, numbers, model_type))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"factor": 0}, {"min_pixels": 0}, {"min_pixels": 10, "max_pixels": 5}])
def test_bounds_out_of_order_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError):
        FrameSizeRule(**wrong)  # type: ignore[arg-type]  # the test passes numbers alone
