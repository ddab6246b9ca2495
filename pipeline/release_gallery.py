"""The sampled items that a report shows in full: frames, texts, tags, and each view's nearest neighbours."""

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from actors.decode import DecodeStage
from actors.frame_size import FrameSizeRule
from pipeline.config import RunConfig
from pipeline.publish_evidence import sampled_view
from pipeline.reader import fetchable_items
from pipeline.sketches import hash64
from pipeline.vector_quality import neighbours
from records.errors import Failure, FatalError
from records.items import CatalogItem, Row
from records.releases import VIEWS
from storage.catalog import Catalog
from storage.faults import RetryConfig
from storage.fetch import Fetcher

logger = logging.getLogger(__name__)

THUMBNAIL_PIXELS = 200 * 150
NEIGHBOURS_SHOWN = 3
_JPEG_QUALITY = 72
_FETCH_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A near item by one view."""

    video_id: str
    cosine: float
    text: str
    """Its document in that view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryItem:
    """One card."""

    values: Mapping[str, Any]
    """The row of the release, without vectors."""
    frames: Sequence[str]
    """`data:` URIs of JPEGs, in order of time."""
    note: str
    """Why there are no frames; empty where there are, or none were asked for."""
    near: Mapping[str, Sequence[Neighbour]]
    """View to the nearest items of the sample; empty where the item has no vector."""


def gallery(sample: pa.Table, catalog: Catalog, config: RunConfig) -> list[GalleryItem]:
    """The items of the sample with the smallest hashes.

    Args:
        sample: Rows of a release, with `shard_id`.
        catalog: Says how to fetch an item.
        config: How many items and frames; the limits on fetching and decoding.
    """
    ids: list[Any] = sample["video_id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda place: (hash64(ids[place]), ids[place]))
    chosen = order[: config.publish.gallery_items]
    near = {view: _near(sample, view, chosen) for view in VIEWS}
    shown = sample.drop_columns([f"vector_{view}" for view in VIEWS]).take(pa.array(chosen, pa.int64())).to_pylist()
    pictures = key_frames(_catalog_items(shown, catalog), config)
    return [
        GalleryItem(values=values, frames=frames, note=note, near={view: near[view].get(place, ()) for view in VIEWS})
        for place, values, (frames, note) in zip(chosen, shown, pictures, strict=True)
    ]


def key_frames(items: Sequence[CatalogItem], config: RunConfig) -> list[tuple[list[str], str]]:
    """A few small frames of each item, spread over its length, or why there are none. Decoded in a child process."""
    if not config.publish.key_frames or not items:
        return [([], "")] * len(items)
    decode = replace(
        config.decode,
        sampling="uniform",
        min_frames=1,
        max_frames=config.publish.key_frames,
        frame_size=FrameSizeRule(factor=2, temporal_factor=1, min_pixels=4, max_pixels=THUMBNAIL_PIXELS),
        max_frame_pixels=None,
        processes=1,
        pool=replace(config.decode.pool, calls=1),
    )
    retry = RetryConfig(attempts=2, first_wait_seconds=0.2, max_wait_seconds=1.0)
    limits = replace(config.fetch.limits, request_seconds=min(config.fetch.limits.request_seconds, _FETCH_SECONDS))
    fetch = replace(config.fetch, retry=retry, limits=limits)
    try:
        stage = DecodeStage(decode, Fetcher(fetch))
    except FatalError as error:
        logger.warning("no key frames in the report: %s", error)
        return [([], f"no frames: {error}")] * len(items)
    try:
        return [_one(stage, item) for item in items]
    finally:
        stage.close()


def _one(stage: DecodeStage, item: CatalogItem) -> tuple[list[str], str]:
    try:
        (decoded,) = stage([Row(item=item)], [True], [False])
    except FatalError as error:
        return [], f"no frames: {error}"
    if isinstance(decoded, Failure):
        return [], f"no frames: {decoded.kind} ({decoded.message})"
    if decoded.facts.video_failure is not None:
        return [], f"no frames: {decoded.facts.video_failure.kind} ({decoded.facts.video_failure.message})"
    if decoded.frames is None:
        return [], "no video"
    return [_jpeg(picture) for picture in decoded.frames.pixels], ""


def _jpeg(picture: npt.NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _near(sample: pa.Table, view: str, chosen: Sequence[int]) -> dict[int, list[Neighbour]]:
    """Row number in the sample to its nearest rows, for the chosen rows that have a vector."""
    found = sampled_view(sample, view)
    rows = {place: row for row, place in enumerate(found.places.tolist())}
    near, cosines = neighbours(found.units, NEIGHBOURS_SHOWN)
    ids, documents = sample["video_id"], sample[f"document_{view}"]
    result: dict[int, list[Neighbour]] = {}
    for place in chosen:
        if place in rows:
            pairs = zip(found.places[near[rows[place]]].tolist(), cosines[rows[place]].tolist(), strict=True)
            result[place] = [
                Neighbour(video_id=ids[other].as_py(), cosine=cosine, text=_one_line(documents[other].as_py()))
                for other, cosine in pairs
            ]
    return result


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _catalog_items(shown: Sequence[Mapping[str, Any]], catalog: Catalog) -> list[CatalogItem]:
    """The catalog's lines of some rows, each shard read once."""
    shards = {values["shard_id"] for values in shown}
    lines = {item.key: item for shard_id in sorted(shards) for item in fetchable_items(catalog, shard_id).values()}
    return [lines[values["video_id"], values["version"]] for values in shown]
