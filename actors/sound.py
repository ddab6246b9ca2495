"""What every stage that listens asks first: is there anything to hear?"""

import numpy as np

from records.media import Audio
from records.outcomes import Note

SILENT_PEAK = 8
"""Loudest sample of what counts as silence, of 32,768 (-72 dB of full scale): an encoder's noise stays below."""


def audio_note(audio: Audio | None) -> Note:
    """NO_AUDIO without a track or samples, SILENT where no sample is louder than `SILENT_PEAK`, else NONE."""
    if audio is None or not len(audio.samples):
        return Note.NO_AUDIO
    # Two comparisons rather than abs(): abs(-32768) overflows int16.
    loud = bool(np.max(audio.samples) > SILENT_PEAK or np.min(audio.samples) < -SILENT_PEAK)
    return Note.NONE if loud else Note.SILENT
