"""At which size frames are decoded: the one the captioner's own processor would choose, so that it resizes nothing."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from records.errors import UserError

_MAX_ASPECT_RATIO = 200
_MAX_STEPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSizeRule:
    """The smart-resize rule of a Qwen-VL processor; the defaults are transformers' for Qwen2.5-VL.

    Raises:
        UserError: The bounds are out of order.
    """

    factor: int = 28
    """Both sides are multiples of it: patch size times merge size (28 for Qwen2-VL and Qwen2.5-VL, 32 for Qwen3-VL)."""
    temporal_factor: int = 2
    """Frames in a temporal patch."""
    min_pixels: int = 128 * 28 * 28
    """Fewest pixels of a frame, or of all frames together where `bounds` is `clip`."""
    max_pixels: int = 768 * 28 * 28
    """Most pixels of a frame, or of all frames together where `bounds` is `clip`."""
    bounds: Literal["frame", "clip"] = "frame"
    """What the pixel bounds count: `frame` for Qwen2-VL and Qwen2.5-VL, `clip` for Qwen3-VL."""
    cap_tokens: int | None = None
    """The processor's `max_video_tokens` where its `cap_pixels_per_frame` is on: the further cap of qwen-vl-utils."""

    def __post_init__(self) -> None:
        if self.factor < 1 or self.temporal_factor < 1:
            raise UserError("frame size: factor and temporal_factor must be at least 1")
        if not 0 < self.min_pixels <= self.max_pixels:
            raise UserError(f"frame size: needs 0 < min_pixels <= max_pixels, not {self.min_pixels}, {self.max_pixels}")

    def processor_size(self, *, frames: int, width: int, height: int) -> tuple[int, int]:
        """(width, height) that the processor resizes such frames to.

        Raises:
            ValueError: One side is more than 200 times the other, or the clip has less than a temporal patch.
        """
        limit = self._capped_pixels(frames)
        if self.bounds == "clip":
            return smart_resize_clip(
                frames, width, height, self.factor, self.temporal_factor, min_pixels=self.min_pixels, max_pixels=limit
            )
        return smart_resize_frame(width, height, self.factor, min_pixels=self.min_pixels, max_pixels=limit)

    def target_size(
        self, *, frames: int, width: int, height: int, max_frame_pixels: int | None = None
    ) -> tuple[int, int]:
        """(width, height) that the processor leaves as it is, as near as it comes to what it would choose.

        Args:
            frames: Frames handed over.
            width: Of the picture as displayed.
            height: Of the picture as displayed.
            max_frame_pixels: Shrinks the picture to so many pixels first, to spend fewer tokens on it.

        Raises:
            ValueError: No such size: one side is more than 200 times the other.
        """
        if max_frame_pixels is not None and width * height > max_frame_pixels:
            width, height = _shrunk(width, height, self.factor, max_frame_pixels)
        # The rule is not idempotent: at extreme shapes, and with odd frame counts, it would resize its own result.
        for _ in range(_MAX_STEPS):
            size = self.processor_size(frames=frames, width=width, height=height)
            if size == (width, height):
                return size
            width, height = size
        raise ValueError(f"no size of {frames} frames that the processor leaves alone near {width}x{height}")

    def _capped_pixels(self, frames: int) -> int:
        """The upper bound for so many frames, with transformers' `cap_pixels_per_frame` where it is on."""
        if self.cap_tokens is None:
            return self.max_pixels
        floor = int(self.min_pixels * 1.05)
        if self.bounds == "clip":
            frame_cap = self.cap_tokens * self.factor**2
            return max(min(frame_cap, self.max_pixels // frames), floor) * frames
        total = int(self.cap_tokens * self.factor**2 * 0.9)
        return max(min(self.max_pixels, total * self.temporal_factor // frames), floor)


def smart_resize_frame(width: int, height: int, factor: int, *, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) by the rule of Qwen2-VL and Qwen2.5-VL: each frame alone is kept within the bounds.

    Source: transformers 5.23, `smart_resize` of `models/qwen2_vl/video_processing_qwen2_vl.py`, which vLLM 0.29 calls.
    """
    _check_aspect(width, height)
    new_width, new_height = round(width / factor) * factor, round(height / factor) * factor
    if new_width * new_height > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        return _floored(width / shrink, height / shrink, factor)
    if new_width * new_height < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        return math.ceil(width * grow / factor) * factor, math.ceil(height * grow / factor) * factor
    return new_width, new_height


def smart_resize_clip(
    frames: int, width: int, height: int, factor: int, temporal_factor: int, *, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """(width, height) by the rule of Qwen3-VL: all frames together are kept within the bounds.

    Source: transformers 5.23, `smart_resize` of `models/qwen3_vl/video_processing_qwen3_vl.py`, which vLLM 0.29 calls.
    """
    if frames < temporal_factor:
        raise ValueError(f"{frames} frames are less than one temporal patch of {temporal_factor}")
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        width, height = int(width * scale), int(height * scale)
    _check_aspect(width, height)
    new_width, new_height = round(width / factor) * factor, round(height / factor) * factor
    pixels = round(frames / temporal_factor) * temporal_factor * new_width * new_height
    if pixels > max_pixels:
        shrink = math.sqrt(frames * height * width / max_pixels)
        return _floored(width / shrink, height / shrink, factor)
    if pixels < min_pixels:
        grow = math.sqrt(min_pixels / (frames * height * width))
        return math.ceil(width * grow / factor) * factor, math.ceil(height * grow / factor) * factor
    return new_width, new_height


def frame_size_rule(model_dir: Path) -> FrameSizeRule:
    """The rule of the model in a folder, from the files that transformers reads, in its order.

    Raises:
        UserError: The folder holds no processor's numbers, or of a family other than Qwen2-VL, Qwen2.5-VL, Qwen3-VL.
    """
    numbers = _processor_numbers(model_dir)
    family = str(numbers.get("video_processor_type") or _read_json(model_dir / "config.json").get("model_type", ""))
    family = family.lower().replace("_", "")
    if family.startswith(("qwen2vl", "qwen25vl")):
        defaults, patch, cap = FrameSizeRule(), 14, 128_000
        bounds: Literal["frame", "clip"] = "frame"
    elif family.startswith(("qwen3vl", "qwen35")):
        defaults, patch, cap = FrameSizeRule(min_pixels=128 * 32**2, max_pixels=768 * 32**2), 16, 768
        bounds = "clip"
    else:
        raise UserError(
            f"{model_dir}: no frame size rule for {family or 'an unnamed family'}: known are Qwen2-VL, "
            "Qwen2.5-VL and Qwen3-VL"
        )
    size = numbers.get("size") or {}
    low, high = size.get("shortest_edge"), size.get("longest_edge")
    if bounds == "frame":
        low, high = numbers.get("min_pixels") or low, numbers.get("max_pixels") or high
    return FrameSizeRule(
        factor=numbers.get("patch_size", patch) * numbers.get("merge_size", 2),
        temporal_factor=numbers.get("temporal_patch_size", 2),
        min_pixels=low or defaults.min_pixels,
        max_pixels=high or defaults.max_pixels,
        bounds=bounds,
        cap_tokens=numbers.get("max_video_tokens", cap) if numbers.get("cap_pixels_per_frame") else None,
    )


def _processor_numbers(model_dir: Path) -> dict[str, Any]:
    """The video processor's settings: nested in `processor_config.json`, else its own file, else the image's."""
    nested = _read_json(model_dir / "processor_config.json").get("video_processor")
    if isinstance(nested, dict):
        return nested
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if (model_dir / name).is_file():
            return _read_json(model_dir / name)
    raise UserError(
        f"{model_dir}: holds no video_preprocessor_config.json, preprocessor_config.json or "
        "processor_config.json: not a vision-language model's folder"
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _shrunk(width: int, height: int, factor: int, max_pixels: int) -> tuple[int, int]:
    shrink = math.sqrt(width * height / max_pixels)
    return _floored(width / shrink, height / shrink, factor)


def _floored(width: float, height: float, factor: int) -> tuple[int, int]:
    """Rounded down to the factor, but never to nothing."""
    return max(factor, math.floor(width / factor) * factor), max(factor, math.floor(height / factor) * factor)


def _check_aspect(width: int, height: int) -> None:
    ratio = max(height, width) / min(height, width)
    if ratio > _MAX_ASPECT_RATIO:
        raise ValueError(f"one side is {ratio:.0f} times the other, more than the processor's {_MAX_ASPECT_RATIO}")
