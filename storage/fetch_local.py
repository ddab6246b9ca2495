"""Items on a disk of this machine: small ones are copied into memory, large ones lie on disk already and are opened."""

import os

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.etags import differ, is_local
from storage.faults import with_retries
from storage.fetch_check import CatalogCheck
from storage.fetch_config import FetchConfig
from storage.fetch_room import kept
from storage.fetched import FetchedMedia
from storage.local_listing import local_etag

_COPIED_BYTES = 2**20


class LocalReader:
    """Reads items by path or `file://` URI."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config

    def read(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        """The item's bytes.

        Raises:
            BadItemError: `changed`, `too_large`.
            OSError: What the file system says.
        """
        return with_retries(self._config.retry, lambda: self._read(item, check))

    def facts(self, uri: str) -> tuple[int, str]:
        """Size and ETag of a whole file."""
        status = os.stat(uri.removeprefix("file://"))
        return status.st_size, local_etag(status)

    def _read(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        start = item.byte_offset or 0
        with open(item.uri.removeprefix("file://"), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            there = max(status.st_size - start, 0)
            size = there if item.byte_offset is None or item.size_bytes is None else min(item.size_bytes, there)
            check(size, _etag(item, status))
            if self._config.spill.on_disk(size):
                return _opened(os.dup(file.fileno()), item, size)
            with kept(FetchedMedia.empty(size)) as media:
                file.seek(start)
                position = 0
                while position < size and (part := file.read(min(_COPIED_BYTES, size - position))):
                    media.write(part, position)
                    position += len(part)
                check(position, _etag(item, os.fstat(file.fileno())))
        return media


def _etag(item: CatalogItem, status: os.stat_result) -> str:
    """The file's ETag; empty where what the catalog has is none of a file's, but a list's."""
    return local_etag(status) if is_local(item.etag) else ""


def _opened(descriptor: int, item: CatalogItem, size_bytes: int) -> FetchedMedia:
    """The file itself, which another process may still write to."""

    def verify() -> None:
        etag = _etag(item, os.fstat(descriptor))
        if differ(etag, item.etag):
            raise BadItemError(FailureKind.CHANGED, f"ETag {etag} where the catalog has {item.etag}")

    return FetchedMedia(descriptor, size_bytes, offset=item.byte_offset or 0, verify=verify)
