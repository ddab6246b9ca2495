"""Speech in chunks: against faster-whisper's own, and what holds for any spans."""

import numpy as np
from faster_whisper.vad import VadOptions, collect_chunks
from hypothesis import given
from hypothesis import strategies as st

from actors.speech import chunk_speech, find_speech
from records.media import AUDIO_RATE_HZ
from tests.sounds import babble, silence, to_audio

WINDOW = 30 * AUDIO_RATE_HZ
LENGTHS = st.lists(
    st.tuples(st.integers(min_value=0, max_value=40_000), st.integers(min_value=1, max_value=WINDOW)), max_size=30
)


@given(gaps_and_lengths=LENGTHS)
def test_chunks_equal_those_of_faster_whisper(gaps_and_lengths: list[tuple[int, int]]) -> None:
    spans, position = list[tuple[int, int]](), 0
    for gap, length in gaps_and_lengths:
        spans.append((position + gap, position + gap + length))
        position += gap + length
    chunks = list(chunk_speech(3, spans, WINDOW))
    assert [span for chunk in chunks for span in chunk.spans] == spans
    assert all(0 < chunk.samples <= WINDOW for chunk in chunks)
    assert all(chunk.clip == 3 for chunk in chunks)
    starts = np.cumsum([0, *(chunk.samples for chunk in chunks)])
    assert [chunk.start for chunk in chunks] == starts[:-1].tolist()
    if spans:
        timestamps = [{"start": start, "end": end} for start, end in spans]
        sound = np.zeros(position, dtype=np.float32)
        wanted, _ = collect_chunks(sound, timestamps, max_duration=WINDOW / AUDIO_RATE_HZ)
        assert [chunk.samples for chunk in chunks] == [len(one) for one in wanted]


def test_speech_is_found_where_it_is() -> None:
    spans = find_speech(to_audio(silence(3), babble(5, 1), silence(3)), VadOptions())
    assert spans
    assert all(2 * AUDIO_RATE_HZ < start < end < 9 * AUDIO_RATE_HZ for start, end in spans)
    assert find_speech(to_audio(silence(3)), VadOptions()) == []
