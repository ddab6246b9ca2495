"""What only a look at vectors together tells: collapse and neighbours, on a sample small enough for one process."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BLOCK_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """How many directions a view's vectors fill."""

    rows: int
    dimension: int
    singular_values: tuple[float, ...]
    """Of the (rows, dimension) matrix of unit vectors, largest first."""

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the singular values' shares: Roy and Vetterli (EUSIPCO 2007), as RankMe uses it.

        Between 1, all vectors on one line, and min(rows, dimension); 0 without vectors.
        """
        values = np.asarray(self.singular_values)
        if not values.sum() > 0:
            return 0.0
        shares = values[values > 0] / values.sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))

    @property
    def rank_share(self) -> float:
        """The effective rank as a share of what it could be."""
        most = min(self.rows, self.dimension)
        return self.effective_rank / most if most else 0.0


def spectrum(units: Floats) -> Spectrum:
    """Of (n, D) unit vectors, by the eigenvalues of the smaller Gram matrix."""
    rows, dimension = units.shape
    if not rows or not dimension:
        return Spectrum(rows=rows, dimension=dimension, singular_values=())
    gram = units @ units.T if rows < dimension else units.T @ units
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram)[::-1], 0.0, None))
    # Beneath what eigenvalues of this size are exact to, there are no values but rounding.
    values[values < values[0] * np.sqrt(np.finfo(np.float64).eps * max(rows, dimension))] = 0.0
    return Spectrum(rows=rows, dimension=dimension, singular_values=tuple(values.tolist()))


def unit_rows(vectors: Floats) -> Floats:
    """(n, D) brought to unit length; rows that are zero or not finite become zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    good = np.isfinite(norms) & (norms > 0)
    units: Floats = np.where(good, vectors, 0.0) / np.where(good, norms, 1.0)
    return units


def neighbours(units: Floats, k: int) -> tuple[Integers, Floats]:
    """The k nearest other rows of each row by cosine; of equal ones the lower row first.

    Args:
        units: (n, D) unit vectors.
        k: At most n - 1 are found.

    Returns:
        (n, k) row numbers and (n, k) cosines, nearest first.
    """
    rows = len(units)
    k = max(min(k, rows - 1), 0)
    found, cosines = np.zeros((rows, k), dtype=np.int64), np.zeros((rows, k))
    if not k:
        return found, cosines
    for start in range(0, rows, _BLOCK_ROWS):
        near = units[start : start + _BLOCK_ROWS] @ units.T
        own = np.arange(len(near))
        near[own, start + own] = -np.inf
        near = np.round(near, 12)  # rows that are equal must not be ordered by rounding
        order = np.argsort(-near, axis=1, kind="stable")[:, :k]
        found[start : start + len(near)] = order
        cosines[start : start + len(near)] = np.take_along_axis(near, order, axis=1)
    return found, cosines


def neighbour_overlap(one: Floats, other: Floats, k: int) -> float:
    """Mean share of a row's k nearest rows that are its nearest under the other vectors too: recall at k.

    Args:
        one: (n, D) unit vectors of some items.
        other: (n, E) unit vectors of the same items, in the same order.
        k: Neighbours looked at.
    """
    ours, theirs = neighbours(one, k)[0], neighbours(other, k)[0]
    if not ours.size:
        return 1.0
    same = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(ours, theirs, strict=True)]
    return float(np.mean(same) / ours.shape[1])
