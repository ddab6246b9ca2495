"""Stage `embed`: one vector for each view of an item, from the texts of the stages before."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from actors.documents import READABLE, Document, Documents, DocumentTemplates, make_documents
from actors.isolate import failure_from, isolate
from actors.split_text import split_text
from actors.stage import PoolConfig
from records.errors import BadItemError, Failure, FailureKind
from records.items import Row
from records.outcomes import Embedding, View

STAGE = "embed"

REVISION = 2
"""Raised when this code changes its output."""

_SPEED_ONLY = frozenset({"model", "revision", "device", "batch_size", "pool"})

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedConfig:
    """How documents are made and encoded.

    Raises:
        ValueError: A field is out of its range.
    """

    model: str = "BAAI/bge-large-en-v1.5"
    """A sentence-transformers model: a hub id or a folder."""
    revision: str | None = None
    """Commit of a hub id."""
    device: str = "auto"
    """`auto` (CUDA where there is a GPU), `cpu`, `cuda` or `cuda:<n>`."""
    compute_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the encoder: `float32`, `float16` or `bfloat16`."""
    dtype: Literal["float16", "float32"] = "float16"
    """Number format of the stored vectors: `float16` or `float32`."""
    normalize: bool = True
    """Whether vectors get unit length."""
    prompt: str = ""
    """Put before each text, as some encoders want (`passage: ` for E5); BGE wants none for documents."""
    overflow: Literal["pool", "cut"] = "pool"
    """What becomes of a text over the limit: `pool` takes the mean of its pieces' vectors, `cut` its start."""
    min_tag_score: float = 0.1
    """Audio tags below are no part of a document."""
    templates: DocumentTemplates = field(default_factory=DocumentTemplates)
    batch_size: int = 64
    """Texts in one forward pass."""
    pool: PoolConfig = field(default_factory=lambda: PoolConfig(num_gpus=0.1, batch_rows=64))

    def __post_init__(self) -> None:
        if self.compute_dtype not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"embed: compute_dtype is float32, float16 or bfloat16, not {self.compute_dtype!r}")
        if self.dtype not in ("float16", "float32"):
            raise ValueError(f"embed: dtype is float16 or float32, not {self.dtype!r}")
        if self.overflow not in ("pool", "cut"):
            raise ValueError(f"embed: overflow is pool or cut, not {self.overflow!r}")
        if self.batch_size < 1:
            raise ValueError("embed: batch_size must be at least 1")
        if not 0 <= self.min_tag_score <= 1:
            raise ValueError(f"embed: min_tag_score lies between 0 and 1, unlike {self.min_tag_score}")


def fingerprint_fields(config: EmbedConfig) -> Mapping[str, object]:
    """What of the config changes the vectors."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in _SPEED_ONLY}


class Encoder(Protocol):
    """An engine that turns texts into vectors."""

    def split(self, text: str) -> list[str]:
        """Pieces that the encoder takes whole; one where the text fits."""
        ...

    def encode(self, texts: Sequence[str]) -> Floats:
        """(B, D) float32, one vector for each text; what is over the limit is cut off."""
        ...


class SentenceEncoder:
    """A model of sentence-transformers."""

    def __init__(self, config: EmbedConfig) -> None:
        """Loads the weights."""
        # Imported where used: both take seconds, and a config is read in processes that run no model.
        import torch
        from sentence_transformers import SentenceTransformer

        self._config = config
        self._model: Any = SentenceTransformer(
            config.model,
            revision=config.revision,
            device=None if config.device == "auto" else config.device,
            model_kwargs={"dtype": getattr(torch, config.compute_dtype)},
        )
        tokenizer: Any = self._model.tokenizer
        prompt_tokens = len(tokenizer(config.prompt, add_special_tokens=False)["input_ids"])
        self._budget = int(self._model.max_seq_length) - tokenizer.num_special_tokens_to_add() - prompt_tokens

    def split(self, text: str) -> list[str]:
        """Pieces of at most the encoder's limit, less its special tokens and the prompt."""
        return split_text(text, self._model.tokenizer, self._budget)

    def encode(self, texts: Sequence[str]) -> Floats:
        """(B, D) float32."""
        vectors = self._model.encode(
            list(texts),
            prompt=self._config.prompt,
            batch_size=self._config.batch_size,
            normalize_embeddings=self._config.normalize,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)


class EmbedStage:
    """Embeds rows; the texts of all views of all rows share the engine's batches, and equal texts are encoded once."""

    def __init__(self, config: EmbedConfig, *, reads: tuple[str, ...], encoder: Encoder | None = None) -> None:
        """Loads the encoder.

        Args:
            config: `model` and `revision` as resolved: a folder, or a hub id with its commit.
            reads: The stages of this run whose texts make the documents, of `READABLE`.
            encoder: Another engine.

        Raises:
            ValueError: `reads` names a stage without a text.
        """
        unknown = sorted(set(reads) - set(READABLE))
        if unknown:
            raise ValueError(f"embed reads {', '.join(READABLE)}, not {', '.join(unknown)}")
        self._config = config
        self._reads = reads
        self._encoder: Encoder = encoder if encoder is not None else SentenceEncoder(config)

    def __call__(self, rows: Sequence[Row]) -> list[Embedding | Failure]:
        """The views of each row, in order; a row with a text that the engine cannot take gets a `Failure`.

        Raises:
            FatalError: The engine fails on a plain word too.
        """
        config = self._config
        documents = [make_documents(row, self._reads, config.templates, config.min_tag_score) for row in rows]
        plans = self._plan(sorted({view.text for views in documents for view in views.views() if view.text}))
        texts = sorted({piece for plan in plans.values() if isinstance(plan, _Plan) for piece in plan.pieces})
        vectors = dict(zip(texts, isolate(texts, self._encode, self._probe), strict=True))
        return [self._embedding(views, plans, vectors) for views in documents]

    def close(self) -> None:
        """Nothing outlives the object: torch frees the model with it."""

    def _plan(self, texts: Sequence[str]) -> "dict[str, _Plan | Exception]":
        def work(batch: Sequence[str]) -> list[_Plan]:
            split = [self._encoder.split(text) for text in batch]
            if self._config.overflow == "pool":
                return [_Plan(pieces=tuple(pieces), cut=False) for pieces in split]
            # What is to be cut stays whole: the encoder cuts it itself, at its own limit.
            return [_Plan(pieces=(text,), cut=len(pieces) > 1) for text, pieces in zip(batch, split, strict=True)]

        return dict(zip(texts, isolate(texts, work, self._probe), strict=True))

    def _encode(self, texts: Sequence[str]) -> list[Floats]:
        vectors = self._encoder.encode(texts)
        if not np.isfinite(vectors).all():
            raise BadItemError(FailureKind.ENGINE_ERROR, "the encoder gave a vector that is not finite")
        return list(vectors)

    def _probe(self) -> None:
        self._encode(["a"])

    def _embedding(
        self, documents: Documents, plans: "Mapping[str, _Plan | Exception]", vectors: Mapping[str, Floats | Exception]
    ) -> Embedding | Failure:
        views: list[View] = []
        for document in documents.views():
            view = self._view(document, plans, vectors)
            if isinstance(view, Exception):
                return failure_from(STAGE, view)
            views.append(view)
        video, audio, metadata, everything = views
        return Embedding(video=video, audio=audio, metadata=metadata, all=everything)

    def _view(
        self, document: Document, plans: "Mapping[str, _Plan | Exception]", vectors: Mapping[str, Floats | Exception]
    ) -> View | Exception:
        if document.missing:
            return View(document="", vector=None, missing=document.missing)
        plan = plans[document.text]
        if isinstance(plan, Exception):
            return plan
        parts: list[Floats] = []
        for piece in plan.pieces:
            vector = vectors[piece]
            if isinstance(vector, Exception):
                return vector
            parts.append(vector)
        return View(document=document.text, vector=self._pool(parts), chunks=len(parts), cut=plan.cut)

    def _pool(self, parts: Sequence[Floats]) -> npt.NDArray[np.float32] | npt.NDArray[np.float16]:
        vector = parts[0]
        if len(parts) > 1:
            vector = np.mean(np.stack(parts), axis=0)
            norm = float(np.linalg.norm(vector))
            if self._config.normalize and norm > 0:
                vector = vector / np.float32(norm)
        # A copy, so that no row keeps the whole batch's array alive.
        return vector.astype(np.float16) if self._config.dtype == "float16" else vector.astype(np.float32, copy=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How one document is encoded."""

    pieces: tuple[str, ...]
    cut: bool
