"""One clip from bytes to facts, frames and sound: what runs in the decoding process."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from actors.decode_audio import decode_audio
from actors.decode_config import DecodeConfig
from actors.decode_frames import decode_frames
from actors.decode_media import AudioTrack, Media, VideoTrack, open_media
from actors.sampling import sample_indices
from records.errors import BadItemError, Failure, FailureKind
from records.media import Audio, Frames
from records.outcomes import MediaFacts

STAGE = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What decoding makes of an item."""

    facts: MediaFacts
    """Of both streams, whichever was asked for; a stream that failed says so here."""
    frames: Frames | None
    """None without video, without a wish for it, or where it failed."""
    audio: Audio | None
    """None without sound, without a wish for it, or where it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """What is wanted of a clip."""

    config: DecodeConfig
    video: bool
    audio: bool


def decode_clip(data: memoryview, request: DecodeRequest) -> Decoded:
    """Reads a clip's facts and decodes what is wanted of it. The streams fail apart.

    Raises:
        BadItemError: `corrupt` where it is no media file, `too_long`.
    """
    config = request.config
    with open_media(
        data,
        max_pixels=config.max_pixels,
        max_duration_seconds=config.max_duration_seconds,
        threads=config.decoder_threads,
    ) as media:
        facts, frames, audio = _facts(media), None, None
        if isinstance(media.video, VideoTrack):
            try:
                facts, plan = _with_video(facts, media.video, config)
                if request.video:
                    frames = _frames(media.video, plan, config)
                    facts = replace(facts, frame_times_seconds=frames.times_seconds)
            except BadItemError as error:
                facts = replace(facts, video_failure=_failure(error))
        if request.audio and isinstance(media.audio, AudioTrack):
            try:
                audio = Audio(samples=decode_audio(media.audio, max_seconds=config.audio_max_seconds))
            except BadItemError as error:
                facts = replace(facts, audio_failure=_failure(error))
    return Decoded(facts=facts, frames=frames, audio=audio)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Which frames to take, at which size."""

    indices: Sequence[int]
    width: int
    height: int


def _facts(media: Media) -> MediaFacts:
    """Everything but the video's numbers."""
    return MediaFacts(
        duration_seconds=media.duration_seconds,
        has_video=media.video is not None,
        has_audio=media.audio is not None,
        video_codec=media.video_codec,
        audio_codec=media.audio_codec,
        audio_seconds=media.audio_seconds,
        video_failure=_failure(media.video) if isinstance(media.video, BadItemError) else None,
        audio_failure=_failure(media.audio) if isinstance(media.audio, BadItemError) else None,
    )


def _with_video(facts: MediaFacts, track: VideoTrack, config: DecodeConfig) -> tuple[MediaFacts, _Plan]:
    """Adds the video's numbers, and says which frames to take: known without decoding."""
    indices = sample_indices(
        len(track.shown),
        track.fps,
        fps=config.fps if config.sampling == "fps" else None,
        min_frames=config.min_frames,
        max_frames=config.max_frames,
        multiple=config.frame_size.temporal_factor,
    )
    width, height = _target_size(track, len(indices), config)
    display_width, display_height = track.display_size
    facts = replace(
        facts,
        width=display_width,
        height=display_height,
        rotation_degrees=-90 * track.turns % 360,
        fps=track.fps,
        frame_times_seconds=tuple(track.time_seconds(track.shown[index]) for index in indices),
        frame_width=width,
        frame_height=height,
    )
    return facts, _Plan(indices=indices, width=width, height=height)


def _frames(track: VideoTrack, plan: _Plan, config: DecodeConfig) -> Frames:
    pixels, indices = decode_frames(
        track, plan.indices, width=plan.width, height=plan.height, skip_unreferenced=config.skip_unreferenced
    )
    return Frames(
        pixels=pixels,
        times_seconds=tuple(track.time_seconds(track.shown[index]) for index in indices),
        indices=indices,
        source_fps=track.fps,
        source_frames=len(track.shown),
        duration_seconds=track.duration_seconds,
    )


def _target_size(track: VideoTrack, frames: int, config: DecodeConfig) -> tuple[int, int]:
    width, height = track.display_shape
    try:
        return config.frame_size.target_size(
            frames=frames, width=width, height=height, max_frame_pixels=config.max_frame_pixels
        )
    except ValueError as error:
        raise BadItemError(FailureKind.UNSUPPORTED, f"video of {width}x{height}: {error}") from error


def _failure(error: BadItemError) -> Failure:
    return Failure(stage=STAGE, kind=error.kind, message=str(error))
