"""One finished run of the demo, hence of the main command with every real engine, and what belongs to it."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from tests.clips import make_clip
from tests.media import shared_media

SHOWN_ROWS = 4
"""Of the demo's table."""


def command(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m jobs.<name>` to its end."""
    return subprocess.run(
        [sys.executable, "-m", f"jobs.{name}", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@dataclass(frozen=True)
class Described:
    """One finished run."""

    folder: Path
    """The demo's."""
    source: Path
    output: Path
    arguments: Sequence[str]
    """What the demo gave the main command but for its output."""
    printed: str
    left_behind: set[str]
    """What its workers and engines left in the temporary folder and in shared memory."""

    def table(self, stage: str) -> dict[str, dict[str, Any]]:
        """The stage's lines by video id, from its Parquet files alone."""
        files = sorted((self.output / "stages" / stage).rglob("*.parquet"))
        lines = [line for file in files for line in pq.read_table(file).to_pylist()]
        assert len({line["video_id"] for line in lines}) == len(lines)
        return {line["video_id"]: line for line in lines}


def make_source(folder: Path) -> None:
    """Fills a folder: every kind of stream, what is truly broken, and the real clips where they are."""
    make_clip(folder / "moving.mp4", seconds=2.0)
    make_clip(folder / "turned.mp4", seconds=1.0, width=160, height=96, rotation=90)
    make_clip(folder / "mute.mp4", seconds=1.0, audio=False)
    make_clip(folder / "sound.wav", codec=None, audio_codec="pcm_s16le", seconds=2.0)
    (folder / "broken.mp4").write_bytes(b"this is no video" * 100)
    media = shared_media()
    for file in sorted(media.iterdir()) if media is not None else []:
        shutil.copy(file, folder / file.name)


def semaphores() -> set[str]:
    """Named semaphores that no living process has mapped."""
    mapped: set[int] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):  # gone
            lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
            mapped |= {int(line.split()[4]) for line in lines if "/dev/shm/sem." in line}
    found = {entry.name: entry.inode() for entry in os.scandir("/dev/shm") if entry.name.startswith("sem.")}
    return {name for name, inode in found.items() if inode not in mapped}


def items_of(source: Path) -> set[str]:
    """Ids of the items of a source."""
    return {file.stem for file in source.iterdir() if file.suffix != ".csv"}
