"""Outputs for tests of releases: a catalog and every stage's tables, made in a moment, with no engine and no Ray."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.config import RunConfig
from pipeline.publish_config import PublishConfig
from pipeline.reader import live_items
from pipeline.recipes import tiny
from pipeline.sketches import hash64
from pipeline.spec import Specs, StageSpec
from records.errors import Failure, FailureKind
from records.items import Metadata
from records.outcomes import (
    AudioDescription,
    AudioTags,
    Caption,
    Embedding,
    MediaFacts,
    Note,
    Outcome,
    Transcript,
    View,
)
from records.schemas import StageRow, VectorDtype
from storage.catalog import Catalog
from storage.catalog_refresh import refresh
from storage.sources import SourceItem
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.pipeline.light import nothing
from tests.storage.catalog_model import metadata_generations

DIMENSION = 16
WORDS = (
    "red", "dog", "runs", "over", "wet", "grass", "while", "two", "people", "laugh", "near", "boat", "under", "clouds",
)  # fmt: skip
LANGUAGES = ("en", "de", "zh")

SPECS: Specs = {
    "decode": StageSpec(name="decode", fingerprint="d1", build=nothing),
    "caption": StageSpec(
        name="caption", fingerprint="c1", reads=("decode",), modality="video", build=nothing, footer={"model": "seer"}
    ),
    "transcribe": StageSpec(name="transcribe", fingerprint="t1", reads=("decode",), modality="audio", build=nothing),
    "describe_audio": StageSpec(
        name="describe_audio", fingerprint="a1", reads=("decode",), modality="audio", build=nothing
    ),
    "tag_audio": StageSpec(name="tag_audio", fingerprint="g1", reads=("decode",), modality="audio", build=nothing),
    "embed": StageSpec(
        name="embed",
        fingerprint="e1",
        reads=("caption", "transcribe", "describe_audio", "tag_audio"),
        reads_metadata=True,
        build=nothing,
    ),
}

Change = Callable[[str, str, Outcome | Failure], Outcome | Failure]
"""Stage, video id and what would be stored to what is stored."""


def as_made(stage: str, video_id: str, outcome: Outcome | Failure) -> Outcome | Failure:
    """Changes nothing."""
    return outcome


def publish_config(*, dtype: VectorDtype = "float32", **publish: Any) -> RunConfig:  # noqa: ANN401 - PublishConfig's fields
    """The tiny recipe, with small releases."""
    base = tiny()
    settings = {"key_frames": 0, "gallery_items": 6, **publish}
    return replace(base, embed=replace(base.embed, dtype=dtype), publish=PublishConfig(**settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Fills an output."""

    store: Store
    dtype: VectorDtype = "float32"
    dimension: int = DIMENSION
    change: Change = as_made
    specs: Specs = field(default_factory=lambda: SPECS)

    def list_items(
        self, ids: Sequence[str], *, shard_size: int = 8, root: str = "/nowhere", etag: str = "1"
    ) -> Catalog:
        """Lists these items, titled where their number is even, as the newest content."""
        items = [SourceItem(video_id=one, uri=f"{root}/{one}.mp4", size_bytes=10, etag=etag) for one in ids]
        titles = [(one, Metadata(title=f"Title of {one}")) for number, one in enumerate(ids) if number % 2 == 0]
        refresh(self.store, iter(items), iter(titles), root, shard_size, lambda shard_id: 0, None)
        catalog = Catalog.open(self.store)
        assert catalog is not None
        return catalog

    def fill(self, catalog: Catalog, *, generation: int = 0, shards: Sequence[str] | None = None) -> None:
        """Commits every stage's file for shards that lack it, or for those named."""
        tables = StageTables(self.store, self.dtype)
        metadata = dict(metadata_generations(catalog))
        for shard_id in catalog.shard_ids() if shards is None else shards:
            titles = catalog.read_metadata(shard_id, metadata[shard_id]) if shard_id in metadata else {}
            items = live_items(catalog, shard_id)
            for stage, spec in self.specs.items():
                rows = [
                    StageRow(
                        video_id=item.video_id,
                        version=item.version,
                        generation=generation,
                        outcome=self.change(
                            stage,
                            item.video_id,
                            self.outcome(stage, item.video_id, titles.get(item.key, Metadata()).title),
                        ),
                    )
                    for item in items
                ]
                tables.commit(stage, spec.fingerprint, shard_id, generation, rows, {"run_id": "r", "versions": "v1"})

    def outcome(self, stage: str, video_id: str, title: str) -> Outcome | Failure:
        """What a stage makes of an item: its id alone says."""
        draw = np.random.default_rng(hash64(video_id))
        caption, speech = (" ".join(draw.choice(WORDS, 12)) for _ in range(2))
        mute = hash64(video_id) % 4 == 0
        match stage:
            case "decode":
                return MediaFacts(duration_seconds=float(draw.integers(1, 90)), has_video=True, has_audio=not mute)
            case "caption":
                return Caption(text=f"{video_id}: {caption}", finish_reason="stop")
            case "transcribe":
                language = LANGUAGES[hash64(video_id) % 3]
                spoken = Transcript(text=speech, language=language, language_probability=0.9, speech_seconds=1.0)
                return Transcript(text="", note=Note.NO_AUDIO) if mute else spoken
            case "describe_audio":
                note = Note.NO_AUDIO if mute else Note.NONE
                return AudioDescription(text="" if mute else f"sounds of {video_id}", windows=int(not mute), note=note)
            case "tag_audio":
                if mute:
                    return AudioTags(labels=(), scores=(), note=Note.NO_AUDIO)
                return AudioTags(labels=("Speech", "Wind"), scores=(0.75, 0.25), windows=1)
        views = {name: self._view(f"{name} {video_id}", f"{caption} {name}") for name in ("video", "audio", "all")}
        if mute:
            views["audio"] = View(document="", vector=None, missing="no_audio")
        metadata = self._view(title, title) if title else View(document="", vector=None, missing="no_title")
        return Embedding(video=views["video"], audio=views["audio"], metadata=metadata, all=views["all"])

    def _view(self, seed: str, document: str) -> View:
        vector = np.random.default_rng(hash64(f"{self.dimension} {seed}")).normal(size=self.dimension)
        return View(document=document, vector=(vector / np.linalg.norm(vector)).astype(self.dtype), chunks=1)


def failing(stage: str, *ids: str, kind: FailureKind = FailureKind.CORRUPT) -> Change:
    """A stage that fails on some items; the views of an item that failed in `caption` are missing."""

    def change(at: str, video_id: str, outcome: Outcome | Failure) -> Outcome | Failure:
        if video_id not in ids:
            return outcome
        if at == stage:
            return Failure(stage="decode", kind=kind, message=f"{video_id} <b>is broken</b>")
        if isinstance(outcome, Embedding) and stage == "caption":
            gone = View(document="", vector=None, missing=str(kind))
            return replace(outcome, video=gone, all=gone)
        return outcome

    return change


def ids_of(number: int) -> list[str]:
    """So many ids."""
    return [f"clip-{index:04d}" for index in range(number)]
