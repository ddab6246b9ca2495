"""Which frames of a clip are looked at."""

import math


def sample_indices(
    total_frames: int,
    source_fps: float,
    *,
    fps: float | None = 2.0,
    min_frames: int = 4,
    max_frames: int = 64,
    multiple: int = 2,
) -> list[int]:
    """Indices of the sampled frames, evenly spread from the first frame to the last.

    The count is Qwen-VL's own: `fps` a second of the clip, at least `min_frames`, at most `max_frames`, never more than
    there are, rounded down to a multiple of the temporal patch. A clip of fewer frames than one temporal patch repeats
    its last frame, as the processor would in padding it (Qwen3-VL's refuses such a clip otherwise).

    Args:
        total_frames: Frames in the stream, at least 1.
        source_fps: Average frames a second of the stream.
        fps: Frames a second to take, or None for `max_frames` of any clip (uniform sampling).
        multiple: Frames in a temporal patch.

    Sources: qwen-vl-utils 0.0.14, `smart_nframes` and `_read_video_decord`; transformers 5.23, `sample_frames` of
    `video_processing_qwen3_vl.py`, which spreads them alike but does not round the count to a multiple.
    """
    low = math.ceil(min_frames / multiple) * multiple
    high = min(max_frames, total_frames)
    wanted = max(total_frames / source_fps * fps, low) if fps is not None else max_frames
    count = math.floor(min(wanted, high) / multiple) * multiple
    if count == 0:
        return list(range(total_frames)) + [total_frames - 1] * (multiple - total_frames)
    step = (total_frames - 1) / (count - 1) if count > 1 else 0.0
    return [round(index * step) for index in range(count)]
