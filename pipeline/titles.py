"""Features without a release: titles through a sentence encoder, in a release's layout, as the view `metadata`."""

import io
import json
import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from actors.embed import EmbedConfig, SentenceEncoder
from models.resolve import resolve_model
from pipeline.cells import digest
from records.errors import UserError
from records.fingerprint import fingerprint
from storage.faults import redact
from storage.metadata import read_metadata
from storage.release_reader import ReleaseReader
from storage.stores import Store
from storage.tables import encode_table

logger = logging.getLogger(__name__)

VIEW = "metadata"
REVISION = 1
"""Raised when this code changes the vectors."""

_CHUNK_TEXTS = 4096


def title_release(store: Store, titles_uri: str, encoder: str) -> ReleaseReader:
    """Encodes titles once, below `titles/` of the output, and opens the result.

    Args:
        store: The output.
        titles_uri: CSV, JSON Lines or Parquet with an id and `title`.
        encoder: A sentence-transformers model: a hub id or a folder.

    Raises:
        UserError: The table or the model is missing, or there is no title in it.
    """
    lines = {video_id: metadata.title for video_id, metadata in read_metadata(titles_uri)}
    ids, titles = list(lines), list(lines.values())
    if not any(titles):
        raise UserError(f"{redact(titles_uri)} holds no title")
    model = resolve_model(encoder)
    name = fingerprint(
        stage="titles",
        revision=REVISION,
        fields={},
        model_commit=model.commit,
        upstream={"titles": digest([], ids + titles)},
    )
    prefix = f"titles/{name}/"
    if not store.exists(f"{prefix}manifest.json"):
        logger.info("encoding %d titles with %s", len(titles), encoder)
        vectors = _encode(titles, EmbedConfig(model=model.path, revision=model.revision))
        has = pa.array([bool(title) for title in titles])
        table = pa.table(
            {"video_id": pa.array(ids, pa.string()), "version": pa.array([1] * len(ids)), f"has_{VIEW}": has}
        )
        array = io.BytesIO()
        np.save(array, vectors)
        manifest = {"release": f"titles-{name}", "models": {"embed": {"model": encoder, "commit": model.commit}}}
        # The manifest comes last: without it there is nothing to read.
        store.create_many(
            [(f"{prefix}vectors/{VIEW}.npy", array.getvalue()), (f"{prefix}item_ids.parquet", encode_table(table))]
        )
        store.create_many([(f"{prefix}manifest.json", json.dumps(manifest, indent=1).encode())])
    return ReleaseReader.open(store.uri(prefix))


def _encode(titles: Sequence[str], config: EmbedConfig) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """(M, D) zeros where a title is empty."""
    encoder = SentenceEncoder(config)
    # Long texts with long ones, so that little is padding; equal titles once, so that they are equal vectors.
    texts = sorted({title for title in titles if title}, key=lambda text: (len(text), text))
    rows = {text: row for row, text in enumerate(texts)}
    chunks = [encoder.encode(texts[start : start + _CHUNK_TEXTS]) for start in range(0, len(texts), _CHUNK_TEXTS)]
    encoded = np.concatenate(chunks)
    vectors = np.zeros((len(titles), encoded.shape[1]), dtype=np.float32)
    for line, title in enumerate(titles):
        if title:
            vectors[line] = encoded[rows[title]]
    return vectors
