"""What each stage makes of an item: one frozen record a stage, keyed outside by (`video_id`, `version`).

A clip without the stream that a stage looks at gets an empty record whose `note` says so: a result, not a failure.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from records.errors import Failure


class Note(StrEnum):
    """Why a record is empty or shortened."""

    NONE = ""
    NO_VIDEO = "no_video"
    NO_AUDIO = "no_audio"
    SILENT = "silent"
    NO_SPEECH = "no_speech"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """Stage `decode`: what was learnt of the media. Streams fail apart: one may be a `Failure`, the other good."""

    duration_seconds: float
    """Length of the longest stream."""
    has_video: bool
    has_audio: bool
    width: int = 0
    """Pixels as displayed, rotation applied; 0 without video."""
    height: int = 0
    rotation_degrees: int = 0
    """Clockwise rotation that the container asks for: 0, 90, 180 or 270."""
    fps: float = 0.0
    """Average frames a second."""
    video_codec: str = ""
    audio_codec: str = ""
    frame_times_seconds: tuple[float, ...] = ()
    frame_width: int = 0
    """Pixels of the frames handed to the captioner."""
    frame_height: int = 0
    audio_seconds: float = 0.0
    video_failure: Failure | None = None
    """Why there are no frames. Who wrote this line may have wanted none: a run of `--stages transcribe` decodes only
    sound, and a stage that wants frames later has the failure in its own table."""
    audio_failure: Failure | None = None
    """Why there is no sound, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """Stage `caption`: what is seen."""

    text: str
    finish_reason: str = ""
    """`stop`, or `length` when the output limit cut it; empty where nothing was generated."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    note: Note = Note.NONE

    @property
    def truncated(self) -> bool:
        """Whether the output limit cut the text."""
        return self.finish_reason == "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of speech."""

    start_seconds: float
    end_seconds: float
    text: str
    avg_logprob: float
    no_speech_prob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """Stage `transcribe`: what is said."""

    text: str
    language: str = ""
    """ISO 639-1 code; empty without speech."""
    language_probability: float = 0.0
    speech_seconds: float = 0.0
    """Sound left after the voice-activity filter."""
    segments: tuple[Segment, ...] = ()
    note: Note = Note.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioDescription:
    """Stage `describe_audio`: what is heard."""

    text: str
    """The windows' descriptions joined, each with its time where there are several."""
    windows: int = 0
    truncated_windows: int = 0
    """How many descriptions the output limit cut."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    note: Note = Note.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTags:
    """Stage `tag_audio`: labels of AudioSet's ontology with sigmoid scores, highest first."""

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    windows: int = 0
    note: Note = Note.NONE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """One document and its vector."""

    document: str
    vector: npt.NDArray[np.float32] | npt.NDArray[np.float16] | None
    """(D,) of unit length; None where the view is missing."""
    missing: str = ""
    """Why there is no vector: a failure's kind or a note; empty where there is one."""
    chunks: int = 0
    """Pieces the document was encoded in; more than 1 means their vectors were pooled."""
    cut: bool = False
    """Whether text past the encoder's limit was left out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    """Stage `embed`: one view each for `video`, `audio`, `metadata` and `all`."""

    video: View
    audio: View
    metadata: View
    all: View


Outcome = MediaFacts | Caption | Transcript | AudioDescription | AudioTags | Embedding

STAGES = ("decode", "caption", "transcribe", "describe_audio", "tag_audio", "embed")
"""Every stage, upstream first."""
