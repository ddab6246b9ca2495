"""Sound against faster-whisper's own decoding."""

import io
from typing import Any

import av
import numpy as np
import pytest
from faster_whisper import decode_audio as faster_whisper_audio

from actors.decode_clip import Decoded, DecodeRequest, decode_clip
from actors.decode_config import DecodeConfig
from records.errors import FailureKind
from records.media import Audio
from tests.clips import clip_bytes, make_clip
from tests.media import needs_media, shared_media

STREAMS: dict[str, dict[str, Any]] = {
    "aac in mp4": {},
    "aac in mpegts": {"container": "mpegts"},
    "aac from 3 s on": {"start_seconds": 3.0},
    "mp3": {"audio_codec": "libmp3lame", "codec": None, "container": "mp3"},
    "opus": {"audio_codec": "libopus", "codec": None, "container": "ogg"},
    "flac": {"audio_codec": "flac", "codec": None, "container": "flac"},
    "sound alone in mp4": {"codec": None},
    "too short for a frame": {"seconds": 0.02, "codec": None},
}


def decode(data: bytes, *, video: bool = False, **settings: Any) -> Decoded:  # noqa: ANN401 - the config's fields
    return decode_clip(memoryview(data), DecodeRequest(config=DecodeConfig(**settings), video=video, audio=True))


def audio_of(decoded: Decoded) -> Audio:
    assert decoded.facts.audio_failure is None
    assert decoded.audio is not None
    return decoded.audio


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_samples_equal_faster_whispers(name: str) -> None:
    data = clip_bytes(**STREAMS[name])
    decoded = decode(data)
    np.testing.assert_array_equal(audio_of(decoded).to_float(), faster_whisper_audio(io.BytesIO(data)))
    assert decoded.facts.has_audio
    assert decoded.facts.audio_seconds == pytest.approx(audio_of(decoded).duration_seconds, abs=0.06)
    assert decoded.frames is None


@needs_media
@pytest.mark.parametrize(
    "file", ["jfk.flac", "dj_video1.mp4", "dj_video3.mp4", "dj_video4.mp4", "dj_video5.mp4", "flipping_a_pancake.mkv"]
)
def test_samples_of_real_clips_equal_faster_whispers(file: str) -> None:
    folder = shared_media()
    assert folder is not None
    data = (folder / file).read_bytes()
    np.testing.assert_array_equal(audio_of(decode(data)).to_float(), faster_whisper_audio(io.BytesIO(data)))


@needs_media
def test_the_better_of_two_sounds_is_taken() -> None:
    folder = shared_media()
    assert folder is not None
    data = (folder / "nasa_13013.mp4").read_bytes()
    alone = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(alone, "w", format="mp4") as target:
        best = source.streams[4]
        assert (best.rate, source.streams[1].rate) == (16_000, 8_000)
        copy = target.add_stream_from_template(best)
        for packet in source.demux(best):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    alone.seek(0)
    np.testing.assert_array_equal(audio_of(decode(data)).to_float(), faster_whisper_audio(alone))


def test_the_tone_is_heard() -> None:
    samples = audio_of(decode(clip_bytes(seconds=2.0, audio_codec="flac", codec=None, container="flac"))).to_float()
    spectrum = np.abs(np.fft.rfft(samples))
    loudest = sorted((np.argsort(spectrum)[-2:] / 2.0).tolist())
    assert loudest == [440.0, 880.0]


def test_sound_is_cut_at_the_limit() -> None:
    data = clip_bytes(seconds=4.0)
    cut, whole = audio_of(decode(data, audio_max_seconds=1.5)), audio_of(decode(data))
    assert len(cut.samples) == 24_000
    np.testing.assert_array_equal(cut.samples, whole.samples[:24_000])
    assert decode(data, audio_max_seconds=1.5).facts == decode(data).facts


def broken(data: bytes, stream_type: str, share: float) -> bytes:
    """The clip with the given share of one stream's packets overwritten, in place."""
    spoilt = bytearray(data)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.best(stream_type)
        packets = [packet for packet in container.demux(stream) if packet.size]
        for packet in packets[len(packets) // 3 : len(packets) // 3 + max(round(share * len(packets)), 1)]:
            spoilt[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    return bytes(spoilt)


def test_broken_sound_fails_apart_from_the_pictures() -> None:
    decoded = decode(broken(clip_bytes(seconds=4.0), "audio", 0.5), video=True)
    assert decoded.facts.audio_failure is not None
    assert decoded.facts.audio_failure.kind == FailureKind.CORRUPT
    assert decoded.audio is None
    assert decoded.facts.video_failure is None
    assert decoded.frames is not None


def test_broken_pictures_fail_apart_from_the_sound() -> None:
    data = clip_bytes(seconds=4.0)
    decoded = decode(broken(data, "video", 0.5), video=True)
    assert decoded.facts.video_failure is not None
    assert decoded.facts.video_failure.kind == FailureKind.CORRUPT
    assert decoded.frames is None
    np.testing.assert_array_equal(audio_of(decoded).samples, audio_of(decode(data)).samples)


def test_a_single_broken_packet_of_sound_is_passed_over() -> None:
    data = clip_bytes(seconds=4.0)
    samples = audio_of(decode(broken(data, "audio", 0.0))).samples
    assert abs(len(samples) - len(audio_of(decode(data)).samples)) < 2_000


def test_a_rate_that_changes_midway_is_followed() -> None:
    halves = io.BytesIO(), io.BytesIO()
    for half, codec in zip(halves, ("libmp3lame", "libmp3lame"), strict=True):
        make_clip(half, container="mp3", codec=None, audio_codec=codec, seconds=2.0)
    joined = halves[0].getvalue() + resampled_mp3(seconds=2.0, rate=32_000)
    assert audio_of(decode(joined)).duration_seconds == pytest.approx(4.0, abs=0.2)


def resampled_mp3(seconds: float, rate: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as output:
        stream = output.add_stream("libmp3lame", rate=rate, layout="mono")
        wave = (0.3 * np.sin(np.arange(round(seconds * rate)) * 0.1)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = rate
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()
