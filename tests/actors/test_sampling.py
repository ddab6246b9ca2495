"""Sampling against transformers' own, and what must hold for any clip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

from actors.sampling import sample_indices


@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("source_fps", [10.0, 24.0, 30000 / 1001, 60.0])
def test_indices_equal_those_of_qwen3_vl_where_its_count_is_even(fps: float, source_fps: float) -> None:
    processor = Qwen3VLVideoProcessor(max_frames=64)
    compared = 0
    for total in range(4, 3000, 7):
        theirs = processor.sample_frames(VideoMetadata(total_num_frames=total, fps=source_fps), fps=fps).tolist()
        if len(theirs) % 2 == 0:
            compared += 1
            assert sample_indices(total, source_fps, fps=fps) == theirs
    assert compared > 100


def qwen_vl_utils_count(total: int, source_fps: float, fps: float, low: int, high: int) -> int:
    """What qwen-vl-utils 0.0.14 documents: even, within the bounds, no more than there are."""
    frames = min(max(total / source_fps * fps, -(-low // 2) * 2), high // 2 * 2, total)
    return int(frames // 2 * 2)


@given(
    total=st.integers(1, 100_000),
    source_fps=st.floats(0.1, 240),
    fps=st.floats(0.05, 60),
    low=st.integers(1, 16),
    more=st.integers(1, 500),
)
def test_count_order_and_ends_hold_for_any_clip(total: int, source_fps: float, fps: float, low: int, more: int) -> None:
    high = low + more
    indices = sample_indices(total, source_fps, fps=fps, min_frames=low, max_frames=high)
    assert len(indices) == (qwen_vl_utils_count(total, source_fps, fps, low, high) or 2)
    assert indices == sorted(indices)
    assert indices[0] == 0
    assert indices[-1] == total - 1
    if total > 1:
        assert len(set(indices)) == len(indices)
        assert np.ptp(np.diff(indices)) <= 1


def test_a_single_frame_fills_a_temporal_patch() -> None:
    assert sample_indices(1, 25.0) == [0, 0]
    assert sample_indices(3, 25.0, multiple=4) == [0, 1, 2, 2]


def test_uniform_takes_as_many_of_any_length() -> None:
    assert len(sample_indices(100, 25.0, fps=None, max_frames=16)) == 16
    assert len(sample_indices(100_000, 25.0, fps=None, max_frames=16)) == 16
    assert sample_indices(7, 25.0, fps=None, max_frames=16) == [0, 1, 2, 4, 5, 6]
