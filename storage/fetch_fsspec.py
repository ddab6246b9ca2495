"""Items from any other file system that fsspec knows: Google Cloud Storage, Azure and the rest."""

from dataclasses import replace
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.faults import answered, with_retries
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
        self._scheme = scheme
        self._class: Any = fsspec.get_filesystem_class(scheme)
        self._filesystems: dict[str, Any] = {}
        """By what a URI says of where the file system is: the account of `abfss://`, the host of `sftp://`."""

    def _filesystem(self, uri: str) -> Any:  # noqa: ANN401 - fsspec ships no types
        # A name may end like a version's; the store that listed it took it as it is.
        options = {
            key: value for key, value in self._class._get_kwargs_from_urls(uri).items() if key != "version_aware"
        }
        name = repr(sorted(options.items()))
        try:
            # setdefault as in `storage.fetch`.
            return self._filesystems.get(name) or self._filesystems.setdefault(
                name, tried_once(self._class(use_listings_cache=False, **options))
            )
        except TypeError as error:
            raise ValueError(f"{self._scheme}:// cannot be opened without further arguments") from error

    def read(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        """The item's bytes, large ones in parts; looked at again behind the last, so that all are of one version.

        Such a file system cannot be asked for one version of an object. The second look is left out where nothing can
        be told from it: one part, and no ETag in the catalog or none of the store.

        Raises:
            BadItemError: `changed`, `too_large`.
            Exception: Whatever `storage.faults.is_of_store` knows, after the last try.
        """
        filesystem, config = self._filesystem(item.uri), self._config
        path = filesystem._strip_protocol(item.uri)

        def look(against: CatalogCheck) -> tuple[int | None, str]:
            info = filesystem.info(path)
            size, etag = item.size_bytes if item.byte_offset is not None else info.get("size"), etag_of(info)
            against(size, etag)
            return size, etag

        size_bytes, etag = with_retries(config.retry, lambda: look(check))
        in_parts = size_bytes is not None and size_bytes > config.part_bytes
        try:
            media = self._read_known(filesystem, path, item.byte_offset, size_bytes, check)
        except Exception as error:
            if answered(error)[0] == 416:
                raise BadItemError(FailureKind.CHANGED, "it ends before this range begins") from None
            raise
        with kept(media):
            if in_parts or (etag and item.etag):
                again = check if item.etag else CatalogCheck(replace(item, etag=etag), config.max_bytes)
                with_retries(config.retry, lambda: look(again))
        return media

    def _read_known(
        self,
        filesystem: AbstractFileSystem,
        path: str,
        byte_offset: int | None,
        size_bytes: int | None,
        check: CatalogCheck,
    ) -> FetchedMedia:
        config, start = self._config, byte_offset or 0
        if size_bytes is None:
            return with_retries(config.retry, lambda: self._read_unknown(filesystem, path, check))

        def read(first: int, end: int) -> None:
            def once() -> None:
                whole = byte_offset is None and end - first == size_bytes
                part = {} if whole else {"start": start + first, "end": start + end}
                data = filesystem.cat_file(path, **part)
                check(size_bytes - (end - first) + len(data), "")
                media.write(data, first)

            if end > first:
                with_retries(config.retry, once)

        with kept(with_retries(config.retry, lambda: config.spill.room(size_bytes))) as media:
            read_in_parts(size_bytes, config.part_bytes, config.parts_at_once, read)
        return media

    def facts(self, uri: str) -> tuple[int, str]:
        """Size and ETag of a whole object."""
        filesystem = self._filesystem(uri)
        info = filesystem.info(filesystem._strip_protocol(uri))
        return int(info["size"]), etag_of(info)

    def _read_unknown(self, filesystem: AbstractFileSystem, path: str, check: CatalogCheck) -> FetchedMedia:
        data: bytes = filesystem.cat_file(path)
        check(len(data), "")
        return FetchedMedia.of_bytes(data)
