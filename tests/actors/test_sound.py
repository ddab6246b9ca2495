"""What counts as no sound and as silence."""

import numpy as np
import pytest

from actors.sound import SILENT_PEAK, audio_note
from records.media import Audio
from records.outcomes import Note


@pytest.mark.parametrize(
    ("samples", "note"),
    [
        ([], Note.NO_AUDIO),
        ([0] * 100, Note.SILENT),
        ([SILENT_PEAK, -SILENT_PEAK], Note.SILENT),
        ([0, SILENT_PEAK + 1], Note.NONE),
        ([0, -SILENT_PEAK - 1], Note.NONE),
        ([-32768], Note.NONE),
        ([32767], Note.NONE),
    ],
)
def test_the_loudest_sample_decides(samples: list[int], note: Note) -> None:
    assert audio_note(Audio(samples=np.array(samples, dtype=np.int16))) is note


def test_no_track_is_no_audio() -> None:
    assert audio_note(None) is Note.NO_AUDIO
