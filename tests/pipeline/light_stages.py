"""Light engines for the whole graph: real workers, blocks, kills and commits, but no model to load.

What an item's id says, happens: `missing…` is not found, `kills-caption…` ends the captioner's process each time.
"""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from actors.decode import Decoded
from actors.stage import PoolConfig
from pipeline.spec import Specs, StageSpec
from records.errors import Failure, FailureKind
from records.items import Metadata, Row
from records.media import Audio, Frames
from records.outcomes import Caption, Embedding, MediaFacts, Note, Transcript, View

if TYPE_CHECKING:
    from storage.catalog import Catalog

STAGES = ("decode", "caption", "transcribe", "embed")
POOL = PoolConfig(num_cpus=0.25, batch_rows=4)


def seed_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


@dataclass
class LightDecode:
    """Frames and sound that follow from the id. Each read leaves a line in a log."""

    log: Path
    seconds: float = 0.0

    def __call__(
        self, rows: Sequence[Row], want_video: Sequence[bool], want_audio: Sequence[bool]
    ) -> list[Decoded | Failure]:
        return [self._one(row.item.video_id, *wants) for row, *wants in zip(rows, want_video, want_audio, strict=True)]

    def _one(self, video_id: str, video: bool, audio: bool) -> Decoded | Failure:
        time.sleep(self.seconds)
        with self.log.open("a") as file:
            file.write(f"{video_id}\n")
        if video_id.startswith("missing"):
            return Failure(stage="decode", kind=FailureKind.NOT_FOUND, message="no such object")
        shade = seed_of(video_id) % 256
        pixels = np.full((2, 28, 28, 3), shade, dtype=np.uint8)
        frames = Frames(
            pixels=pixels,
            times_seconds=(0.0, 0.5),
            indices=(0, 1),
            source_fps=2.0,
            source_frames=2,
            duration_seconds=1.0,
        )
        sound = Audio(samples=np.full(160, shade, dtype=np.int16))
        facts = MediaFacts(duration_seconds=1.0, has_video=True, has_audio=True, frame_times_seconds=(0.0, 0.5))
        return Decoded(facts=facts, frames=frames if video else None, audio=sound if audio else None)

    def close(self) -> None:
        pass


@dataclass
class LightCaption:
    """Says which shade it saw."""

    prompt: str = "a shade"
    seconds: float = 0.0

    def __call__(self, rows: Sequence[Row]) -> list[Caption | Failure]:
        return [self._one(row) for row in rows]

    def _one(self, row: Row) -> Caption:
        time.sleep(self.seconds)
        if row.item.video_id.startswith("kills-caption"):
            os._exit(1)
        assert row.frames is not None
        return Caption(
            text=f"{row.item.video_id}: {self.prompt} of {row.frames.pixels.mean():.0f}", finish_reason="stop"
        )

    def close(self) -> None:
        pass


@dataclass
class LightTranscribe:
    """Says how loud it was."""

    seconds: float = 0.0

    def __call__(self, rows: Sequence[Row]) -> list[Transcript | Failure]:
        time.sleep(self.seconds)
        outcomes: list[Transcript | Failure] = []
        for row in rows:
            if row.audio is None:
                outcomes.append(Transcript(text="", note=Note.NO_AUDIO))
            else:
                outcomes.append(Transcript(text=f"loudness {row.audio.samples.mean():.0f}", language="en"))
        return outcomes

    def close(self) -> None:
        pass


@dataclass
class LightEmbed:
    """Turns each document into numbers that follow from its text."""

    encoder: str = "first"

    def __call__(self, rows: Sequence[Row]) -> list[Embedding | Failure]:
        return [self._one(row) for row in rows]

    def _one(self, row: Row) -> Embedding:
        caption, transcript = row.outcomes.get("caption"), row.outcomes.get("transcribe")
        texts = {
            "video": caption.text if isinstance(caption, Caption) else None,
            "audio": transcript.text if isinstance(transcript, Transcript) else None,
            "metadata": row.metadata.title or None,
        }
        views = {name: self._view(text) for name, text in texts.items()}
        whole = None if None in (texts["video"], texts["audio"]) else f"{texts}"
        return Embedding(all=self._view(whole), **views)

    def _view(self, text: str | None) -> View:
        if text is None:
            return View(document="", vector=None, missing="not_there")
        vector = np.random.default_rng(seed_of(self.encoder + text)).standard_normal(8).astype(np.float32)
        return View(document=text, vector=vector / np.linalg.norm(vector), chunks=1)

    def close(self) -> None:
        pass


def light_specs(
    log: Path,
    *,
    prompt: str = "a shade",
    encoder: str = "first",
    seconds: float = 0.0,
    stages: Sequence[str] = STAGES,
) -> Specs:
    """The graph of the light engines; fingerprints follow from the settings as they do in earnest.

    Most of a light run is the start of its workers: where all stages go one way, fewer `stages` show it as well.
    """
    specs = _all_specs(log, prompt, encoder, seconds)
    return {
        name: replace(spec, reads=tuple(one for one in spec.reads if one in stages))
        for name, spec in specs.items()
        if name in stages
    }


def _all_specs(log: Path, prompt: str, encoder: str, seconds: float) -> Specs:
    return {
        "decode": StageSpec(
            name="decode",
            fingerprint="decode-1",
            pool=POOL,
            build=partial(LightDecode, log, seconds),
        ),
        "caption": StageSpec(
            name="caption",
            fingerprint=f"caption-{seed_of(prompt):08x}",
            reads=("decode",),
            modality="video",
            pool=POOL,
            build=partial(LightCaption, prompt, seconds),
        ),
        "transcribe": StageSpec(
            name="transcribe",
            fingerprint="transcribe-1",
            reads=("decode",),
            modality="audio",
            pool=POOL,
            build=partial(LightTranscribe, seconds),
        ),
        "embed": StageSpec(
            name="embed",
            fingerprint=f"embed-{seed_of(prompt + encoder):08x}",
            reads=("caption", "transcribe"),
            reads_metadata=True,
            pool=POOL,
            build=partial(LightEmbed, encoder),
        ),
    }


def light_catalog(
    output: str,
    video_ids: Sequence[str],
    *,
    shard_size: int,
    titles: Mapping[str, str] | None = None,
    size_bytes: int = 1,
) -> "Catalog":
    """Lists the ids as if they were files of a source."""
    # Here: every worker imports this module, and a store's errors take as long to import as numpy.
    from storage.catalog import Catalog
    from storage.catalog_refresh import refresh
    from storage.sources import SourceItem
    from storage.stores import Store

    store = Store.open(output)
    listing = [SourceItem(video_id=one, uri=f"light://{one}", size_bytes=size_bytes, etag="1") for one in video_ids]
    metadata = [(one, Metadata(title=title)) for one, title in titles.items()] if titles is not None else None
    refresh(store, listing, metadata, "light://", shard_size, lambda shard_id: 1)
    catalog = Catalog.open(store)
    assert catalog is not None
    return catalog
