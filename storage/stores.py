"""The object store under a run: objects created once and whole, listed in order, replaced only by who read them.

`Store.open` takes any fsspec URI. `s3://` and local folders give every guarantee named here; see `storage.fsspec_store`
for what other file systems lack. Credentials, region and endpoint come from their usual places; no message holds them.
"""

import errno
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from records.errors import UserError
from storage.backends import DELETE_PATHS, Backend, Entry, Piece, path_order
from storage.faults import RetryConfig, TimeLimits, is_transient, redact, with_retries
from storage.open_backend import open_backend
from storage.range_reader import RangeReader
from storage.store_errors import raise_typed

T = TypeVar("T")

_DEFAULT_RETRY: Final = RetryConfig()
_DEFAULT_LIMITS: Final = TimeLimits()
_PARALLEL_WRITES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """How patient a run is with the store of its output. Never part of a fingerprint."""

    retry: RetryConfig = field(default_factory=RetryConfig)
    """How throttling, time-outs, resets and short answers are retried."""
    limits: TimeLimits = field(default_factory=TimeLimits)
    """How long one request may take; on S3."""


class Store:
    """An output or a source. Safe to share between threads.

    Every method raises:
        UserError: The store is missing, refuses the credentials, is read-only or full; one line.
        TransientError: It was throttled, unreachable or too slow, after all retries.
    """

    def __init__(self, backend: Backend, retry: RetryConfig = _DEFAULT_RETRY) -> None:
        self._backend = backend
        self._retry = retry

    @classmethod
    def open(cls, uri: str, *, retry: RetryConfig = _DEFAULT_RETRY, limits: TimeLimits = _DEFAULT_LIMITS) -> "Store":
        """Opens a folder or prefix, which need not exist; a bucket must.

        Args:
            uri: `s3://bucket/prefix`, a path, `file://`, or another fsspec URI. Where no S3 credentials are found,
                requests go unsigned, as public buckets want them.
            retry: How transient faults are retried.
            limits: How long one request may take; on S3.
        """
        store = cls(open_backend(uri, limits), retry)
        store._guarded("", store._backend.check)
        return store

    @property
    def root(self) -> str:
        """The store's URI with `/` at its end: appended to, it names an object."""
        return self._backend.root

    def uri(self, path: str) -> str:
        """The URI of an object."""
        return self._backend.root + path

    def read_bytes(self, path: str) -> bytes:
        """A whole object.

        Raises:
            FileNotFoundError: There is none.
        """
        return self.read_with_token(path)[0]

    def read_with_token(self, path: str) -> tuple[bytes, str]:
        """A whole object, and the token that `replace` wants.

        Raises:
            FileNotFoundError: There is none.
        """
        return self._guarded(path, lambda: self._backend.read(path))

    def open_input(
        self, path: str, *, buffer_bytes: int = 64 * 1024, max_ahead_bytes: int = 0, size_bytes: int | None = None
    ) -> io.BufferedReader:
        """An object to seek in, as pyarrow reads Parquet: only the ranges asked for travel, each with retries.

        Args:
            buffer_bytes: Least that is fetched at a time.
            max_ahead_bytes: Most that is read ahead where the object is read in sequence.
            size_bytes: As a listing gave it, of an object that never changes; None to ask.

        Raises:
            FileNotFoundError: There is none; where the size is given, only once it is read.
        """
        size = self.size(path) if size_bytes is None else size_bytes

        def read(start: int, end: int) -> bytes:
            return self._guarded(path, lambda: self._backend.read_range(path, start, end))

        return io.BufferedReader(RangeReader(read, size, max_ahead_bytes), buffer_size=buffer_bytes)

    def exists(self, path: str) -> bool:
        """Whether there is an object now: nothing is cached."""
        try:
            self._guarded(path, lambda: self._backend.size(path))
        except FileNotFoundError:
            return False
        return True

    def create(self, path: str, data: bytes) -> bool:
        """Writes an object if there is none: at once and whole, or not at all.

        Returns:
            True where the object now holds exactly this data. A refused put is read back and compared, so that a retry
            that meets its own first try counts as made. False where other data is there.
        """
        try:
            created = self._guarded(path, lambda: self._backend.create(path, data))
        except FileNotFoundError:
            raise UserError(f"{redact(self.root)} cannot be written to: no folder can be made there") from None
        return created or self._holds(path, data)

    def create_many(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Creates objects a few at a time in parallel, replacing what an uncommitted writer left under their names.

        Only for names that no committed record points at, and under a lease.
        """
        with ThreadPoolExecutor(_PARALLEL_WRITES, thread_name_prefix="store-write") as pool:
            running: list[Future[None]] = []
            for path, data in objects:
                if len(running) >= 2 * _PARALLEL_WRITES:
                    running.pop(0).result()
                running.append(pool.submit(self._create_over, path, data))
            for write in running:
                write.result()

    def _create_over(self, path: str, data: bytes) -> None:
        while not self.create(path, data):
            self.delete([path])

    def replace(self, path: str, data: bytes, token: str) -> bool:
        """Writes over the object that `read_with_token` saw; False where it has changed or gone since.

        As with `create`, a refused put that finds this very data counts as made.
        """
        if self._guarded(path, lambda: self._backend.replace(path, data, token)):
            return True
        return self._holds(path, data)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[Entry]:
        """Objects whose path starts with `prefix` and sorts behind `after`, in byte order, page by page.

        Raises:
            UserError: The store does not list in byte order (S3's directory buckets do not), on which merges rest.
        """
        more = True
        while more:
            entries, more = self._page(prefix, after)
            try:
                for entry in entries:
                    if path_order(entry.path) <= path_order(after):
                        raise UserError(
                            f"{redact(self.root)} does not list its objects in order: use another kind of store"
                        )
                    after = entry.path
                    yield entry
            except Exception as error:
                more = is_transient(error)  # what came is not asked for again
                if not more:
                    raise_typed(self.root, prefix, error)
                    raise

    def entry(self, path: str) -> Entry:
        """One object's entry of the listing.

        Raises:
            FileNotFoundError: There is none.
        """
        found = next(self.list(path), None)
        if found is None or found.path != path:
            raise FileNotFoundError(errno.ENOENT, "no such object", redact(self.uri(path)))
        return found

    def _page(self, prefix: str, after: str) -> tuple[Iterator[Entry], bool]:
        """The next entries, the first of them in hand: so each page that is begun again after a fault goes on."""

        def begin() -> tuple[Iterator[Entry], bool]:
            entries, more = self._backend.page(prefix, after)
            return itertools.chain(list(itertools.islice(entries, 1)), entries), more

        return self._guarded(prefix, begin)

    def names(self, folder: str) -> Iterator[str]:
        """Names of the objects right in a folder (its path ends in `/`), in no order: the quickest listing there is."""
        found = self._guarded(folder, lambda: self._backend.names(folder))
        if found is None:
            paths = (entry.path[len(folder) :] for entry in self.list(folder))
            found = (name for name in paths if "/" not in name)
        try:
            yield from found
        except OSError as error:
            raise_typed(self.root, folder, error)
            raise

    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders right below a folder's path (which ends in `/`), in order."""
        names, token = self._folder_page(prefix, "")
        while token:
            more, token = self._folder_page(prefix, token)
            names = [*names, *more]
        return names

    def _folder_page(self, prefix: str, token: str) -> tuple[Sequence[str], str]:
        return self._guarded(prefix, lambda: self._backend.folders(prefix, token))

    def delete(self, paths: Sequence[str]) -> None:
        """Removes objects; those that are gone already are no error."""
        for start in range(0, len(paths), DELETE_PATHS):
            self._delete_some(paths[start : start + DELETE_PATHS])

    def _delete_some(self, paths: Sequence[str]) -> None:
        self._guarded(paths[0], lambda: self._backend.delete(paths))

    def retract(self, path: str, token: str) -> None:
        """Takes back the object that has this token where a local store holds nothing else, folders and all."""
        self._guarded(path, lambda: self._backend.retract(path, token))

    def start_upload(self, path: str) -> str:
        """Begins an object that any number of processes write in pieces; nobody sees it before `finish_upload`.

        Returns:
            A token that names this upload to every process.
        """
        return self._guarded(path, lambda: self._backend.start_upload(path))

    def put_piece(self, path: str, token: str, piece: Piece, data: bytes) -> str:
        """Writes one piece, or writes it again; returns the receipt that `finish_upload` wants."""
        return self._guarded(path, lambda: self._backend.put_piece(path, token, piece, data))

    def finish_upload(self, path: str, token: str, receipts: Sequence[str], size_bytes: int) -> bool:
        """Makes the pieces, by number, one object at once; False, and the pieces gone, where there is one already."""
        return self._guarded(path, lambda: self._backend.finish_upload(path, token, receipts, size_bytes))

    def abort_upload(self, path: str, token: str) -> None:
        """Removes the pieces of an upload; none is no error."""
        self._guarded(path, lambda: self._backend.abort_upload(path, token))

    def open_uploads(self, prefix: str) -> Sequence[tuple[str, str]]:
        """Path and token of every upload below a folder's path that was neither finished nor aborted."""
        return self._guarded(prefix, lambda: list(self._backend.open_uploads(prefix)))

    def size(self, path: str) -> int:
        """An object's length in bytes.

        Raises:
            FileNotFoundError: There is none.
        """
        return self._guarded(path, lambda: self._backend.size(path))

    def sweep(self, min_age_seconds: float = 86_400.0) -> int:
        """Removes what killed writers left behind in a local store; returns how many files. Others leave nothing."""
        return self._guarded("", lambda: self._backend.sweep(min_age_seconds))

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return self.read_bytes(path) == data
        except FileNotFoundError:
            return False

    def _guarded(self, path: str, operation: Callable[[], T]) -> T:
        try:
            return with_retries(self._retry, operation)
        except Exception as error:
            raise_typed(self.root, path, error)
            raise
