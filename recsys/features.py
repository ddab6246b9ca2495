"""Frozen features: one vector an item, laid out in the catalogue's order, centred and scaled.

Vectors of one encoder share a large common part (the mean cosine of two titles is 0.17 with MiniLM); what tells items
apart is what is left without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from records.errors import UserError
from recsys.catalogue import MAX_NAMED, Catalogue

MIN_STD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors:
    """Vectors as they come: each line is an item's."""

    name: str
    """What the source is called: a view, or the user's word."""
    item_ids: Sequence[str]
    values: npt.NDArray[np.floating[Any]]
    """(M, F) float16, float32 or float64."""
    present: npt.NDArray[np.bool_] | None = None
    """(M,) whether the line holds a vector; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReport:
    """What a source gives, and what it lacks: shown beside the results."""

    name: str
    dim: int
    items: int
    """Items of the catalogue with a vector."""
    missing: int
    """Items of the catalogue without one: they get zeros, the mean of all others."""
    not_finite: int
    """Of those, items whose vector held NaN or infinity."""
    unknown: int
    """Vectors of items that the catalogue lacks; not used."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """A source in the catalogue's order."""

    values: npt.NDArray[np.float32]
    """(N, F) mean 0 and variance 1 in each dimension over the items that have a vector, zeros for the others."""
    present: npt.NDArray[np.bool_]
    """(N,) whether an item has a vector."""
    report: FeatureReport


def align(vectors: Vectors, catalogue: Catalogue) -> Features:
    """Puts vectors into the catalogue's order and standardises them.

    Raises:
        UserError: The array is not (items, dimensions) of floats, or its length is not that of the ids; an id comes
            twice; no item of the catalogue has a vector.
    """
    values, name = vectors.values, vectors.name
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating) or not values.shape[1]:
        raise UserError(f"{name}: vectors must be floats (items, dimensions), not {values.dtype} {values.shape}")
    if len(values) != len(vectors.item_ids):
        raise UserError(f"{name}: {len(values)} vectors for {len(vectors.item_ids)} ids")
    places = catalogue.indices(vectors.item_ids)
    known = places >= 0
    counts = np.bincount(places[known], minlength=len(catalogue))
    if counts.max(initial=0) > 1:
        twice = catalogue.item_ids[int(counts.argmax())]
        raise UserError(f"{name}: {int((counts > 1).sum())} items have several vectors, such as {twice}")
    finite = np.isfinite(values).all(axis=1)
    given = np.ones(len(values), dtype=bool) if vectors.present is None else vectors.present
    use = known & given & finite
    if not use.any():
        raise UserError(
            f"{name}: no item of the catalogue has a vector; it names {', '.join(vectors.item_ids[:MAX_NAMED])}, "
            f"the catalogue has {', '.join(catalogue.item_ids[:MAX_NAMED])}"
        )
    aligned = np.zeros((len(catalogue), values.shape[1]), dtype=np.float32)
    aligned[places[use]] = standardise(values[use].astype(np.float32))
    present = np.zeros(len(catalogue), dtype=bool)
    present[places[use]] = True
    report = FeatureReport(
        name=name,
        dim=values.shape[1],
        items=int(use.sum()),
        missing=len(catalogue) - int(use.sum()),
        not_finite=int((known & given & ~finite).sum()),
        unknown=int((~known).sum()),
    )
    return Features(values=aligned, present=present, report=report)


def standardise(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(M, F) with mean 0 and variance 1 in each dimension; a dimension that is the same for all becomes 0."""
    centred = values - values.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviations = centred.std(axis=0, dtype=np.float64).astype(np.float32)
    scaled: npt.NDArray[np.float32] = np.where(deviations > MIN_STD, centred / np.maximum(deviations, MIN_STD), 0)
    return scaled.astype(np.float32)


def joined(sources: Sequence[Features]) -> npt.NDArray[np.float32] | None:
    """Several sources side by side: (N, ΣF); None for no source."""
    return np.concatenate([one.values for one in sources], axis=1) if sources else None
