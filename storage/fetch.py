"""Reads one item's bytes from wherever it lies, refusing before it reads and saying what went wrong by kind."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import fsspec

from records.errors import BadItemError, FailureKind, UserError
from records.items import CatalogItem
from storage.faults import STORE_ERRORS, RetryConfig, classify, describe, redact, with_retries
from storage.fetch_parquet import ParquetCells
from storage.fsspec_store import etag_of
from storage.http_client import HttpClient, HttpReply
from storage.local_listing import local_etag
from storage.s3_client import S3Client, clean_etag, split_s3_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchConfig:
    """Limits on one read. None of them changes an output, so none enters a fingerprint.

    Raises:
        ValueError: A limit is not positive.
    """

    max_bytes: int = 2 * 1024**3
    """Largest object or byte range that is read."""
    timeout_seconds: float = 300.0
    """Longest that the body of one try may take, once it has begun; S3 only."""
    retry: RetryConfig = field(default_factory=RetryConfig)
    """How throttling, time-outs and resets are retried."""
    parquet_disk_bytes: int = 8 * 1024**3
    """Most that rows of Parquet files take in temporary files of one worker, one row group at least."""

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.parquet_disk_bytes) < 1 or self.timeout_seconds <= 0:
            raise ValueError("fetch: max_bytes, timeout_seconds and parquet_disk_bytes must be positive")


class Fetcher:
    """One a worker process, called from as many threads as it likes: connections are shared and kept."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._connections: dict[str, Any] = {}
        self._cells = ParquetCells(self._facts, self._read_with_retries, config.parquet_disk_bytes)

    def __call__(self, item: CatalogItem) -> bytes:
        """The item's bytes: the whole object, or its byte range.

        Raises:
            BadItemError: `too_large` before anything is read; `changed` where length or ETag are not the catalog's;
                `not_found`, `forbidden`, `unsupported`; `throttled`, `unreachable` or `timeout` after all retries.
        """
        self._check_limit(item.size_bytes)
        if item.row_index is not None:
            data = self._cells(item, self._config.max_bytes)
            _check(item, len(data), "")
            return data
        return self._read_with_retries(item)

    def _check_limit(self, size_bytes: int | None) -> None:
        if size_bytes is not None and size_bytes > self._config.max_bytes:
            raise BadItemError(FailureKind.TOO_LARGE, f"{size_bytes} bytes, over the limit of {self._config.max_bytes}")

    def _read_with_retries(self, item: CatalogItem) -> bytes:
        try:
            return with_retries(self._config.retry, lambda: self._read(item))
        except STORE_ERRORS as error:
            raise BadItemError(_kind_of(error), f"{redact(item.uri)}: {describe(error)}") from None

    def _read(self, item: CatalogItem) -> bytes:
        scheme, separator, rest = item.uri.partition("://")
        if not separator or scheme == "file":
            return self._read_local(rest if separator else item.uri, item)
        if scheme in ("s3", "s3a"):
            return self._read_s3(item)
        if scheme in ("http", "https"):
            return self._read_http(item)
        return self._read_other(scheme, item)

    def _connection(self, scheme: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - fsspec ships no types
        # setdefault is atomic: threads that meet here end with the same connection.
        return self._connections.get(scheme) or self._connections.setdefault(scheme, make())

    def _read_s3(self, item: CatalogItem) -> bytes:
        bucket, key = split_s3_uri(item.uri)
        client: S3Client = self._connection("s3", S3Client)
        arguments = {"Bucket": bucket, "Key": key}
        if item.byte_offset is not None:
            if item.size_bytes == 0:
                return b""
            arguments["Range"] = f"bytes={item.byte_offset}-{_end(item) - 1}"

        def accept(length: int, etag: str) -> None:
            self._accept(item, length, etag)

        return client.read(arguments, accept=accept, timeout_seconds=self._config.timeout_seconds).data

    def _read_local(self, path: str, item: CatalogItem) -> bytes:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            length = status.st_size if item.byte_offset is None else item.size_bytes
            self._accept(item, length or 0, local_etag(status))
            file.seek(item.byte_offset or 0)
            data = file.read(-1 if item.size_bytes is None else item.size_bytes)
            _check(item, len(data), local_etag(os.fstat(file.fileno())))
        return data

    def _read_http(self, item: CatalogItem) -> bytes:
        client: HttpClient = self._connection("http", HttpClient)
        if item.byte_offset is not None and item.size_bytes == 0:
            return b""

        def accept(reply: HttpReply) -> None:
            _check(item, reply.body_bytes, reply.etag)
            self._check_limit(reply.body_bytes)

        data = client.read(
            item.uri,
            start=item.byte_offset,
            end=None if item.byte_offset is None else _end(item),
            accept=accept,
            max_bytes=self._config.max_bytes if item.size_bytes is None else item.size_bytes,
            timeout_seconds=self._config.timeout_seconds,
        )
        _check(item, len(data), "")
        return data

    def _accept(self, item: CatalogItem, length: int, etag: str) -> None:
        _check(item, length, etag)
        if item.size_bytes is None:
            self._check_limit(length)

    def _facts(self, uri: str) -> tuple[int, str]:
        """Size and ETag of a whole object."""
        try:
            return with_retries(self._config.retry, lambda: self._facts_once(uri))
        except STORE_ERRORS as error:
            raise BadItemError(_kind_of(error), f"{redact(uri)}: {describe(error)}") from None

    def _facts_once(self, uri: str) -> tuple[int, str]:
        scheme, separator, rest = uri.partition("://")
        if not separator or scheme == "file":
            status = os.stat(rest if separator else uri)
            return status.st_size, local_etag(status)
        if scheme in ("s3", "s3a"):
            bucket, key = split_s3_uri(uri)
            client: S3Client = self._connection("s3", S3Client)
            head = client.call("head_object", {"Bucket": bucket, "Key": key})
            return int(head["ContentLength"]), clean_etag(head["ETag"])
        if scheme in ("http", "https"):
            web: HttpClient = self._connection("http", HttpClient)
            reply = web.facts(uri)
            if reply.size_bytes is None:
                raise BadItemError(FailureKind.UNSUPPORTED, "the server does not say how long the file is")
            return reply.size_bytes, reply.etag
        filesystem = self._connection(scheme, lambda: fsspec.filesystem(scheme, use_listings_cache=False))
        info = filesystem.info(filesystem._strip_protocol(uri))
        return int(info["size"]), etag_of(info)

    def _read_other(self, scheme: str, item: CatalogItem) -> bytes:
        filesystem = self._connection(scheme, lambda: fsspec.filesystem(scheme, use_listings_cache=False))
        path = filesystem._strip_protocol(item.uri)
        info = filesystem.info(path)
        if item.byte_offset is None:
            if info.get("size") is not None:
                self._accept(item, int(info["size"]), etag_of(info))
            data: bytes = filesystem.cat_file(path)
        else:
            _check(item, item.size_bytes, etag_of(info))
            data = filesystem.cat_file(path, start=item.byte_offset, end=_end(item))
        _check(item, len(data), "")
        return data


def _end(item: CatalogItem) -> int:
    """The byte behind a byte range."""
    assert item.byte_offset is not None, "the item is a byte range"
    assert item.size_bytes is not None, "a byte range has a length"
    return item.byte_offset + item.size_bytes


def _check(item: CatalogItem, length: int | None, etag: str) -> None:
    """Holds what the store says against the catalog; a length or ETag unknown on either side says nothing."""
    if length is not None and item.size_bytes is not None and length != item.size_bytes:
        raise BadItemError(FailureKind.CHANGED, f"{length} bytes where the catalog has {item.size_bytes}")
    if etag and item.etag and etag != item.etag:
        raise BadItemError(FailureKind.CHANGED, f"ETag {etag} where the catalog has {item.etag}")


def _kind_of(error: Exception) -> FailureKind:
    kind = classify(error)
    if kind is not None:
        return kind
    if isinstance(error, (ImportError, ValueError, UserError)):
        return FailureKind.UNSUPPORTED
    return FailureKind.UNREACHABLE
