"""The demo's clips are real files that an independent decoder reads, and making them again changes nothing."""

import csv
import os
import stat
import wave
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from jobs.demo_clips import CLIPS, ClipSpec, make_clips

FAKE_SYNTHESISER = """#!/bin/sh
# Speaks like espeak: -w FILE TEXT.
test "$1" = -w && cp "{recording}" "$2"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "clips"
    make_clips(folder, synthesiser="")
    return folder


def sound_of(path: Path) -> npt.NDArray[np.float64]:
    """(N,) float samples of the first sound track, mono."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    samples: npt.NDArray[np.float64] = np.concatenate([frame.reshape(-1) for frame in frames]).astype(np.float64)
    return samples


def loudest_hz(samples: npt.NDArray[np.float64], rate_hz: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate_hz / len(samples))


@pytest.mark.parametrize("spec", CLIPS, ids=lambda spec: spec.name)
def test_a_clip_holds_what_it_says(folder: Path, spec: ClipSpec) -> None:
    path = folder / spec.name
    assert path.stat().st_size < 100_000
    with av.open(str(path)) as container:
        assert container.duration is not None
        assert abs(container.duration / 1e6 - spec.seconds) < 0.1
        assert 3 <= spec.seconds <= 6
        assert len(container.streams.video) == (spec.size is not None)
        assert len(container.streams.audio) == (spec.sound is not None)
        if spec.size is None:
            return
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert {frame.shape[1::-1] for frame in frames} == {spec.size}
    assert len(frames) == round(spec.seconds * 15)
    moved = [np.abs(after.astype(int) - before).mean() for before, after in zip(frames, frames[5:], strict=False)]
    assert min(moved) > 0.3


def test_sounds_are_what_they_are_called(folder: Path) -> None:
    assert loudest_hz(sound_of(folder / "shapes.mp4"), 48_000) == pytest.approx(440, abs=1)
    assert np.abs(sound_of(folder / "night.webm")).max() == 0
    chords = sound_of(folder / "chords.flac")
    assert loudest_hz(chords[:48_000], 48_000) in (
        pytest.approx(262, abs=1),
        pytest.approx(330, abs=1),
        pytest.approx(392, abs=1),
    )


def test_titles_name_every_clip_once(folder: Path) -> None:
    with open(folder / "titles.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video_id"] for row in rows] == [Path(spec.name).stem for spec in CLIPS]
    assert all(row["title"] for row in rows)
    assert len({row["video_id"] for row in rows}) == len(CLIPS) == 6


def test_making_them_again_leaves_every_file_and_its_time(folder: Path) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    make_clips(folder, synthesiser="")
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_a_lost_clip_is_made_again_and_nothing_else_lies_about(folder: Path) -> None:
    lost, kept = folder / "chords.flac", folder / "shapes.mp4"
    content, kept_content = lost.read_bytes(), kept.read_bytes()
    lost.unlink()
    make_clips(folder, synthesiser="")
    assert (lost.read_bytes(), kept.read_bytes()) == (content, kept_content)
    assert {path.name for path in folder.iterdir()} == {spec.name for spec in CLIPS} | {"titles.csv"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_spoken_sentence_takes_the_tunes_place(tmp_path: Path) -> None:
    recording = tmp_path / "recording.wav"
    rate_hz = 22_050
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        times = np.arange(7 * rate_hz) / rate_hz
        file.writeframes((np.sin(2 * np.pi * 1000 * times) * 9000).astype(np.int16).tobytes())
    speaker = tmp_path / "speaker"
    speaker.write_text(FAKE_SYNTHESISER.format(recording=recording))
    os.chmod(speaker, stat.S_IRWXU)
    make_clips(tmp_path / "clips", synthesiser=str(speaker))
    samples = sound_of(tmp_path / "clips" / "spoken.mp4")
    assert loudest_hz(samples, rate_hz) == pytest.approx(1000, abs=1)
    assert len(samples) / rate_hz == pytest.approx(7, abs=0.1)
    with av.open(str(tmp_path / "clips" / "spoken.mp4")) as container:
        assert container.streams.video[0].frames == 7 * 15


@pytest.mark.parametrize("synthesiser", ["false", "no-such-command"])
def test_a_synthesiser_that_fails_costs_only_the_sentence(
    folder: Path, tmp_path: Path, synthesiser: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_clips(tmp_path / "clips", synthesiser=synthesiser)
    tune = sound_of(folder / "spoken.mp4")
    assert np.array_equal(sound_of(tmp_path / "clips" / "spoken.mp4"), tune)
    assert np.abs(tune).max() > 0.1
    assert "spoken.mp4" in caplog.text
