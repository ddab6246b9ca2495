"""Reads one item's bytes from wherever it lies, refusing before it reads and saying what went wrong by kind."""

import os
from collections.abc import Callable
from typing import Any

import fsspec

from records.errors import BadItemError, FailureKind, UserError
from records.items import CatalogItem
from storage.faults import STORE_ERRORS, SpillError, classify, describe, redact, with_retries
from storage.fetch_check import CatalogCheck, ContradictionError
from storage.fetch_config import FetchConfig
from storage.fetch_room import SpillConfig, read_in_parts
from storage.fetch_s3 import S3Reader
from storage.fetched import FetchedMedia
from storage.fsspec_store import etag_of
from storage.local_listing import local_etag

__all__ = ["FetchConfig", "Fetcher"]

_COPIED_BYTES = 2**20


class Fetcher:
    """One a worker process, called from as many threads as it likes: connections are shared and kept."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._connections: dict[str, Any] = {}

    def __call__(self, item: CatalogItem) -> FetchedMedia:
        """The item's bytes: the whole object, or its byte range. The caller closes them.

        Raises:
            BadItemError: `too_large` before anything is read; `changed` where length or ETag are not the catalog's;
                `not_found`, `forbidden`, `unsupported`; `throttled`, `unreachable`, `timeout` or `no_space` after all
                retries.
        """
        if item.size_bytes > self._config.max_bytes:
            raise BadItemError(
                FailureKind.TOO_LARGE, f"{item.size_bytes} bytes, over the limit of {self._config.max_bytes}"
            )
        try:
            return self._read(item)
        except ContradictionError as error:
            raise BadItemError(FailureKind.CHANGED, f"{redact(item.uri)}: {error}") from None
        except SpillError as error:
            raise BadItemError(FailureKind.NO_SPACE, str(error)) from None
        except STORE_ERRORS as error:
            raise BadItemError(_kind_of(error), f"{redact(item.uri)}: {describe(error)}") from None

    def _read(self, item: CatalogItem) -> FetchedMedia:
        scheme, separator, rest = item.uri.partition("://")
        check = CatalogCheck(item)
        if not separator or scheme == "file":
            path = rest if separator else item.uri
            return with_retries(self._config.retry, lambda: _read_local(path, item, check, self._config.spill))
        if scheme in ("s3", "s3a"):
            reader: S3Reader = self._connection("s3", lambda: S3Reader(self._config))
            return reader.read(item, check)
        return self._read_other(scheme, item, check)

    def _connection(self, scheme: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - fsspec ships no types
        # setdefault is atomic: threads that meet here end with the same connection.
        return self._connections.get(scheme) or self._connections.setdefault(scheme, make())

    def _read_other(self, scheme: str, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        filesystem = self._connection(scheme, lambda: fsspec.filesystem(scheme, use_listings_cache=False))
        path, retry = filesystem._strip_protocol(item.uri), self._config.retry
        start = item.byte_offset or 0

        def look() -> None:
            info = filesystem.info(path)
            if info.get("size") is not None:
                check(int(info["size"]) if item.byte_offset is None else item.size_bytes, etag_of(info))

        def read(first: int, end: int) -> None:
            def once() -> None:
                whole = item.byte_offset is None and end - first == item.size_bytes
                part = {} if whole else {"start": start + first, "end": start + end}
                data = filesystem.cat_file(path, **part)
                check(item.size_bytes - (end - first) + len(data), "")
                media.write(data, first)

            if end > first:
                with_retries(retry, once)

        with_retries(retry, look)
        media = with_retries(retry, lambda: self._config.spill.room(item.size_bytes))
        try:
            read_in_parts(item.size_bytes, self._config.part_bytes, self._config.parts_at_once, read)
            if item.size_bytes > self._config.part_bytes:
                with_retries(retry, look)  # so that no two parts are of two versions
        except BaseException:
            media.close()
            raise
        return media


def _read_local(path: str, item: CatalogItem, check: CatalogCheck, spill: SpillConfig) -> FetchedMedia:
    """A copy in memory of a small file; a large one lies on disk already and is opened."""
    start = item.byte_offset or 0
    with open(path, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        check(status.st_size if item.byte_offset is None else item.size_bytes, local_etag(status))
        if start + item.size_bytes > status.st_size:
            check(max(status.st_size - start, 0), "")
        if spill.on_disk(item.size_bytes):
            return _opened(os.dup(file.fileno()), item)
        media = FetchedMedia.empty(item.size_bytes)
        file.seek(start)
        position = 0
        while position < item.size_bytes and (part := file.read(min(_COPIED_BYTES, item.size_bytes - position))):
            media.write(part, position)
            position += len(part)
        check(position, local_etag(os.fstat(file.fileno())))
    return media


def _opened(descriptor: int, item: CatalogItem) -> FetchedMedia:
    def verify() -> None:
        etag = local_etag(os.fstat(descriptor))
        if item.etag and etag != item.etag:
            raise BadItemError(FailureKind.CHANGED, f"ETag {etag} where the catalog has {item.etag}")

    return FetchedMedia(descriptor, item.size_bytes, offset=item.byte_offset or 0, verify=verify)


def _kind_of(error: Exception) -> FailureKind:
    kind = classify(error)
    if kind is not None:
        return kind
    if isinstance(error, (ImportError, ValueError, UserError)):
        return FailureKind.UNSUPPORTED
    return FailureKind.UNREACHABLE
