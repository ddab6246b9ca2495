"""Where somebody speaks in a clip, and in which pieces the speech goes to the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faster_whisper.vad import VadOptions, get_speech_timestamps

from records.media import Audio


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Speech of one clip that the model hears at once; positions are samples of the clip."""

    clip: int
    """Which of the call's clips."""
    spans: tuple[tuple[int, int], ...]
    """Half-open stretches of speech, joined end to end: at most one window of the model in all."""
    start: int
    """Samples of speech of this clip before this chunk."""

    @property
    def samples(self) -> int:
        """Length in samples."""
        return sum(end - start for start, end in self.spans)


def find_speech(audio: Audio, vad: VadOptions) -> list[tuple[int, int]]:
    """Half-open sample ranges that hold speech, by the Silero model that faster-whisper ships."""
    return [(speech["start"], speech["end"]) for speech in get_speech_timestamps(audio.to_float(), vad)]


def chunk_speech(clip: int, spans: Sequence[tuple[int, int]], window_samples: int) -> Iterator[Chunk]:
    """Joins neighbouring spans while they fit the model's window, as `collect_chunks` of faster-whisper does."""
    start, held = 0, list[tuple[int, int]]()
    length = 0
    for span in spans:
        span_length = span[1] - span[0]
        if held and length + span_length > window_samples:
            yield Chunk(clip=clip, spans=tuple(held), start=start)
            start, held, length = start + length, [], 0
        held.append(span)
        length += span_length
    if held:
        yield Chunk(clip=clip, spans=tuple(held), start=start)
