"""What decoding can be told."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from actors.frame_size import FrameSizeRule
from actors.stage import PoolConfig
from records.errors import UserError

REVISION = 1
"""Raised when a change of the code changes frames, sound or facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeConfig:
    """Which frames and how much sound are taken, and what a clip may cost.

    Raises:
        UserError: A value is out of range.
    """

    sampling: Literal["fps", "uniform"] = "fps"
    """`fps`: so many frames a second, within the bounds; `uniform`: `max_frames` of every clip, however long."""
    fps: float = 2.0
    """Frames a second to look at; Qwen-VL's default."""
    min_frames: int = 4
    """Fewest frames of a clip that has as many; Qwen-VL's default."""
    max_frames: int = 64
    """Most frames of a clip: beyond `max_frames / fps` seconds they lie further apart. Qwen-VL's own default is 768."""
    frame_size: FrameSizeRule = field(default_factory=FrameSizeRule)
    """The captioner's rule for frame sizes; `actors.frame_size.frame_size_rule` reads it from the model's folder."""
    max_frame_pixels: int | None = 768 * 28 * 28
    """Shrinks larger frames to so many pixels: qwen-vl-utils' 768 merged patches, here of Qwen2.5-VL. None leaves it to
    the model's rule alone, which bounds a clip and not a frame."""
    skip_unreferenced: bool = False
    """Leaves frames undecoded that are neither sampled nor referenced by others: a third faster on such streams, and
    exact wherever a stream marks them truly; an HEVC stream with temporal layers may not."""
    audio_max_seconds: float = 3600.0
    """Sound past it is cut off."""
    max_bytes: int = 1 << 30
    """A larger file is `too_large`."""
    max_pixels: int = 8192 * 4320
    """A video stream of larger pictures is `too_large`."""
    max_duration_seconds: float = 3600.0
    """A longer clip is `too_long`."""
    timeout_seconds: float = 120.0
    """Decoding one clip longer than this is a `timeout`; fetching is not counted."""
    memory_limit_bytes: int = 3 << 30
    """Memory one clip may take in the decoding process; more is `out_of_memory`."""
    decoder_threads: int = 1
    """Threads of the video decoder."""
    processes: int = 1
    """Clips that one worker decodes at a time, each in a process of its own."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(calls=4))
    """Workers. `calls` above `processes` let the clips of the next blocks be fetched while one block is decoded."""

    def __post_init__(self) -> None:
        if self.sampling not in ("fps", "uniform"):
            raise UserError(f"decode: sampling must be fps or uniform, not {self.sampling}")
        if not (self.fps > 0 and math.isfinite(self.fps)):
            raise UserError(f"decode: fps must be positive, not {self.fps}")
        if not 1 <= self.min_frames <= self.max_frames or self.max_frames < self.frame_size.temporal_factor:
            raise UserError(
                f"decode: needs 1 <= min_frames <= max_frames and max_frames >= {self.frame_size.temporal_factor}, "
                f"not {self.min_frames} and {self.max_frames}"
            )
        for name in (
            "audio_max_seconds",
            "max_bytes",
            "max_pixels",
            "max_duration_seconds",
            "timeout_seconds",
            "memory_limit_bytes",
            "decoder_threads",
            "processes",
        ):
            if not getattr(self, name) > 0:
                raise UserError(f"decode: {name} must be positive, not {getattr(self, name)}")
        if self.audio_max_seconds == math.inf:
            raise UserError("decode: audio_max_seconds must be finite")
        if self.max_frame_pixels is not None and self.max_frame_pixels < self.frame_size.factor**2:
            raise UserError(f"decode: max_frame_pixels must be at least {self.frame_size.factor**2}")

    def video_fingerprint(self) -> Mapping[str, object]:
        """What of this can change the frames of a clip that keeps the limits."""
        fingerprint: dict[str, object] = {
            "sampling": self.sampling,
            "max_frames": self.max_frames,
            "frame_size": asdict(self.frame_size),
            "max_frame_pixels": self.max_frame_pixels,
            "skip_unreferenced": self.skip_unreferenced,
        }
        if self.sampling == "fps":
            fingerprint |= {"fps": self.fps, "min_frames": self.min_frames}
        return fingerprint

    def audio_fingerprint(self) -> Mapping[str, object]:
        """What of this can change the sound of a clip that keeps the limits."""
        return {"audio_max_seconds": self.audio_max_seconds}
