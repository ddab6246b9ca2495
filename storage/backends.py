"""What a store can do, whichever kind it is: the few operations on which every guarantee rests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

DELETE_PATHS = 1000
"""Objects that are removed by one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One object of a listing."""

    path: str
    """Relative to the store's root, with `/` between parts."""
    size_bytes: int
    etag: str
    """What the store says of the content; for local files `mtime in nanoseconds-size`."""
    modified: float
    """Seconds since 1970, by the store's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Where a piece of an upload belongs. On S3 all but the last need 5 MiB, and 10,000 are the most."""

    number: int
    """From 0, without gaps."""
    offset: int
    """Bytes of the pieces before it."""


def path_order(path: str) -> bytes:
    """The key by which listings are sorted: the bytes of the path, as S3 sorts."""
    return path.encode("utf-8", "surrogateescape")


class Backend(Protocol):
    """One kind of store, without retries. Errors are OSErrors that `storage.faults.classify` understands."""

    @property
    def root(self) -> str:
        """What a relative path is appended to, to give a URI that `Fetcher` opens; ends in `/` unless empty."""
        ...

    def check(self) -> None:
        """Raises where the store cannot be there or may not be listed; need not exist yet where it can be made."""
        ...

    def read(self, path: str) -> tuple[bytes, str]:
        """The whole object and its token: changes with every write."""
        ...

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of an object."""
        ...

    def size(self, path: str) -> int:
        """Length in bytes; FileNotFoundError where there is none."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Writes the object only if absent, at once and whole; False where one is there."""
        ...

    def replace(self, path: str, data: bytes, token: str) -> bool:
        """Writes the object only over the one that has this token; False where another or none is there."""
        ...

    def page(self, prefix: str, after: str) -> tuple[Iterator[Entry], bool]:
        """Objects whose path starts with `prefix` and sorts behind `after`, in byte order of their paths.

        Returns:
            The next ones, and whether there are more behind the last of them.
        """
        ...

    def names(self, folder: str) -> Iterator[str] | None:
        """Names of the objects right in a folder (its path ends in `/`), in no order; None where `page` is as quick."""
        ...

    def folders(self, prefix: str, token: str) -> tuple[Sequence[str], str]:
        """Names of the folders right below `prefix` (a folder's path with `/` at its end), in order.

        Args:
            token: What the page before gave; empty for the first.

        Returns:
            The next ones, and the token for those behind them; empty where there are none.
        """
        ...

    def delete(self, paths: Sequence[str]) -> None:
        """Removes objects, at most `DELETE_PATHS` of them; those that are gone already are no error."""
        ...

    def retract(self, path: str, token: str) -> None:
        """Removes the object that has this token where it is all there is, in a kind of store that leaves folders."""
        ...

    def start_upload(self, path: str) -> str:
        """Begins an object that any number of processes write in pieces; nobody sees it before `finish_upload`.

        Returns:
            A token that names this upload to every process.
        """
        ...

    def put_piece(self, path: str, token: str, piece: Piece, data: bytes) -> str:
        """Writes one piece, or writes it again; returns the receipt that `finish_upload` wants."""
        ...

    def finish_upload(self, path: str, token: str, receipts: Sequence[str], size_bytes: int) -> bool:
        """Makes the pieces, by number, one object, only if there is none; False, and the pieces gone, where one is."""
        ...

    def abort_upload(self, path: str, token: str) -> None:
        """Removes the pieces; of an upload that is gone already this is no error."""
        ...

    def open_uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Path and token of every upload below a folder's path that was neither finished nor aborted."""
        ...

    def sweep(self, min_age_seconds: float) -> int:
        """Removes what killed writers left, if older than this; returns how many files."""
        ...
