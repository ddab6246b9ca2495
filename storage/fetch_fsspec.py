"""Items from any other file system that fsspec knows: Google Cloud Storage, Azure and the rest."""

from typing import Any

import fsspec

from records.items import CatalogItem
from storage.faults import with_retries
from storage.fetch_check import CatalogCheck
from storage.fetch_config import FetchConfig
from storage.fetch_room import kept, read_in_parts
from storage.fetched import FetchedMedia
from storage.fsspec_client import tried_once
from storage.fsspec_listing import etag_of


class FsspecReader:
    """Reads items of one kind of file system. Safe between threads.

    Raises:
        ValueError: fsspec does not know it, or it wants to know more than its URIs say.
        ImportError: Its package is not installed.
    """

    def __init__(self, config: FetchConfig, scheme: str) -> None:
        self._config = config
        try:
            self._filesystem: Any = tried_once(fsspec.filesystem(scheme, use_listings_cache=False))
        except TypeError as error:
            raise ValueError(f"{scheme}:// cannot be opened without further arguments") from error

    def read(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        """The item's bytes, large ones in parts; looked at again behind the last, so that all are of one version.

        Raises:
            BadItemError: `changed`, `too_large`.
            Exception: Whatever `storage.faults.is_of_store` knows, after the last try.
        """
        config, path = self._config, self._filesystem._strip_protocol(item.uri)
        start = item.byte_offset or 0

        def look() -> int | None:
            info = self._filesystem.info(path)
            size = item.size_bytes if item.byte_offset is not None else info.get("size")
            check(size, etag_of(info))
            return size

        size_bytes = with_retries(config.retry, look)
        if size_bytes is None:
            return with_retries(config.retry, lambda: self._read_unknown(path, check))

        def read(first: int, end: int) -> None:
            def once() -> None:
                whole = item.byte_offset is None and end - first == size_bytes
                part = {} if whole else {"start": start + first, "end": start + end}
                data = self._filesystem.cat_file(path, **part)
                check(size_bytes - (end - first) + len(data), "")
                media.write(data, first)

            if end > first:
                with_retries(config.retry, once)

        with kept(with_retries(config.retry, lambda: config.spill.room(size_bytes))) as media:
            read_in_parts(size_bytes, config.part_bytes, config.parts_at_once, read)
            if size_bytes > config.part_bytes:
                with_retries(config.retry, look)
        return media

    def facts(self, uri: str) -> tuple[int, str]:
        """Size and ETag of a whole object."""
        info = self._filesystem.info(self._filesystem._strip_protocol(uri))
        return int(info["size"]), etag_of(info)

    def _read_unknown(self, path: str, check: CatalogCheck) -> FetchedMedia:
        data: bytes = self._filesystem.cat_file(path)
        check(len(data), "")
        return FetchedMedia.of_bytes(data)
