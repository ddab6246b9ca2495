"""The makers of clips leave the process as they found it."""

import os

from tests.clips import clip_bytes


def test_an_av1_clip_leaves_no_real_time_priority_behind() -> None:
    clip_bytes(seconds=0.5, codec="libsvtav1")
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
