"""Holds what a store says of an item against the catalog: an overwritten object is `changed`, not garbage."""

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.etags import differ

_HINT = ": list the source again with --refresh"


class ContradictionError(ConnectionError):
    """A store's answer contradicts the catalog, seen once: it may be the answer that is wrong, so it is tried again."""


class CatalogCheck:
    """One a fetch. A contradiction counts once two looks in a row agree on it: a proxy or a cache may garble one.

    Args:
        item: The catalog's line.
        max_bytes: Longest that the item may be.
    """

    def __init__(self, item: CatalogItem, max_bytes: int) -> None:
        self._item = item
        self._max_bytes = max_bytes
        self._seen: str | None = None

    def __call__(self, length: int | None, etag: str) -> None:
        """Checks an answer; a length or ETag that is unknown on either side, or an ETag of another kind, says nothing.

        Raises:
            ContradictionError: It differs from the catalog, and from what the last look said.
            BadItemError: `changed`, `too_large`.
        """
        problem = self._problem(length, etag)
        if problem is not None and problem == self._seen:
            raise BadItemError(FailureKind.CHANGED, problem)
        self._seen = problem
        if problem is not None:
            raise ContradictionError(problem)
        self.limit(length)

    def limit(self, length: int | None) -> None:
        """Refuses what is too long.

        Raises:
            BadItemError: `too_large`.
        """
        if length is not None and length > self._max_bytes:
            raise BadItemError(FailureKind.TOO_LARGE, f"{length} bytes, over the limit of {self._max_bytes}")

    def _problem(self, length: int | None, etag: str) -> str | None:
        item = self._item
        if length is not None and item.size_bytes is not None and length != item.size_bytes:
            return f"{length} bytes where the catalog has {item.size_bytes}{_HINT}"
        if differ(etag, item.etag):
            return f"ETag {etag} where the catalog has {item.etag}{_HINT}"
        return None
