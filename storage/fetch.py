"""Reads one item's bytes from wherever it lies, refusing before it reads and saying what went wrong by kind."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from records.errors import BadItemError, FailureKind, UserError
from records.items import CatalogItem
from storage.faults import SpillError, classify, describe, is_of_store, is_refusal, redact, with_retries
from storage.fetch_check import CatalogCheck, ContradictionError
from storage.fetch_config import FetchConfig
from storage.fetch_fsspec import FsspecReader
from storage.fetch_http import HttpReader
from storage.fetch_local import LocalReader
from storage.fetch_parquet import ParquetCells
from storage.fetch_s3 import S3Reader
from storage.fetched import FetchedMedia

__all__ = ["FetchConfig", "Fetcher"]

T = TypeVar("T")


class Reader(Protocol):
    """What reads items of one kind of store, over connections that it shares and keeps. Safe between threads."""

    def read(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        """The item's bytes; everything that the store says of them goes through the check."""
        ...

    def facts(self, uri: str) -> tuple[int, str]:
        """Size and ETag of a whole object; one try."""
        ...


class Fetcher:
    """One a worker process, called from as many threads as it likes: connections are shared and kept."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._readers: dict[str, Reader] = {}
        self._cells = ParquetCells(self._facts, self._read_bytes, config)

    def __call__(self, item: CatalogItem) -> FetchedMedia:
        """The item's bytes: the whole object, its byte range, or its row of a Parquet file. The caller closes them.

        Raises:
            BadItemError: `too_large` before anything is read; `changed` where length or ETag are not the catalog's;
                `not_found`, `forbidden`, `unsupported`; `throttled`, `unreachable`, `timeout` or `no_space` after all
                retries.
        """
        check = CatalogCheck(item, self._config.max_bytes)
        check.limit(item.size_bytes)
        if item.row_index is None:
            return self._read(item, check)
        media = self._cells(item)
        if item.size_bytes is not None and media.size_bytes != item.size_bytes:
            media.close()
            raise BadItemError(FailureKind.CHANGED, f"{media.size_bytes} bytes, not {item.size_bytes}")
        check.limit(media.size_bytes)
        return media

    def _read(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        return _typed(item.uri, lambda: self._reader(item.uri).read(item, check))

    def _read_bytes(self, item: CatalogItem) -> bytes:
        with self._read(item, CatalogCheck(item, self._config.max_bytes)) as media:
            return media.read_bytes()

    def _facts(self, item: CatalogItem) -> tuple[int, str]:
        """Size and ETag of the whole object that an item is a row of; the ETag goes through the check."""
        check = CatalogCheck(item, self._config.max_bytes)

        def look() -> tuple[int, str]:
            size_bytes, etag = self._reader(item.uri).facts(item.uri)
            check(None, etag)
            return size_bytes, etag

        return _typed(item.uri, lambda: with_retries(self._config.retry, look))

    def _reader(self, uri: str) -> Reader:
        scheme = uri.partition("://")[0].lower() if "://" in uri else "file"
        # setdefault is atomic: threads that meet here end with the same connections.
        return self._readers.get(scheme) or self._readers.setdefault(scheme, self._new_reader(scheme))

    def _new_reader(self, scheme: str) -> Reader:
        if scheme == "file":
            return LocalReader(self._config)
        if scheme in ("s3", "s3a"):
            return S3Reader(self._config)
        if scheme in ("http", "https"):
            return HttpReader(self._config)
        return FsspecReader(self._config, scheme)


def _typed(uri: str, read: Callable[[], T]) -> T:
    """Turns what a store raises into the item's failure."""
    try:
        return read()
    except BadItemError as error:
        raise BadItemError(error.kind, f"{redact(uri)}: {error}") from None
    except ContradictionError as error:
        raise BadItemError(FailureKind.CHANGED, f"{redact(uri)}: {error}") from None
    except SpillError as error:
        raise BadItemError(FailureKind.NO_SPACE, str(error)) from None
    except Exception as error:
        if not is_of_store(error):
            raise
        raise BadItemError(_kind_of(error), f"{redact(uri)}: {describe(error)}") from None


def _kind_of(error: Exception) -> FailureKind:
    kind = classify(error)
    if kind is not None:
        return kind
    if is_refusal(error):
        return FailureKind.FORBIDDEN
    if isinstance(error, (ImportError, ValueError, UserError)):
        return FailureKind.UNSUPPORTED
    return FailureKind.UNREACHABLE
