"""Items from S3: straight into the file that the decoder maps, large ones in ranges that are all of one version."""

from dataclasses import replace
from typing import Any

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.faults import s3_status, with_retries
from storage.fetch_check import CatalogCheck
from storage.fetch_config import FetchConfig
from storage.fetch_room import kept, read_in_parts
from storage.fetched import FetchedMedia
from storage.s3_client import Answer, S3Client, Write, clean_etag, split_s3_uri

_CHANGED_STATUS = {412: "the store says that the ETag is not the catalog's", 416: "it ends before this range begins"}


class S3Reader:
    """Reads items of any bucket over shared connections. Safe between threads."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._client = S3Client(config.limits, connections=config.in_flight.max_objects * 2)

    def read(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        """The item's bytes, every request of them retried by itself.

        Raises:
            BadItemError: `changed`, `too_large`.
            Exception: Whatever `storage.faults.is_of_store` knows, after the last try.
        """
        if item.byte_offset is not None and item.size_bytes == 0:
            return FetchedMedia.empty(0)
        try:
            if item.size_bytes is None or item.size_bytes <= self._config.part_bytes:
                return with_retries(self._config.retry, lambda: self._read_whole(item, check))
            return self._read_parts(item, item.size_bytes, check)
        except OSError as error:
            status = s3_status(error)[0]
            if status in _CHANGED_STATUS:
                raise BadItemError(FailureKind.CHANGED, _CHANGED_STATUS[status]) from None
            raise

    def facts(self, uri: str) -> tuple[int, str]:
        """Size and ETag of a whole object."""
        bucket, key = split_s3_uri(uri)
        head = self._client.call("head_object", {"Bucket": bucket, "Key": key})
        return int(head["ContentLength"]), clean_etag(head["ETag"])

    def _read_whole(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        """One request, one try; as much room as the store says that there are bytes."""
        made: list[FetchedMedia] = []

        def accept(answer: Answer) -> Write:
            check(answer.length, answer.etag)
            made.append(self._config.spill.room(answer.length))
            return made[0].write

        arguments = _arguments(item)
        if item.byte_offset is not None:
            arguments["Range"] = f"bytes={item.byte_offset}-{item.byte_offset + (item.size_bytes or 0) - 1}"
        try:
            self._client.stream(arguments, accept=accept, on_thread=self._config.spill.on_disk(item.size_bytes))
        except BaseException:
            for media in made:
                media.close()
            raise
        return made[0]

    def _read_parts(self, item: CatalogItem, size_bytes: int, check: CatalogCheck) -> FetchedMedia:
        """Ranges, several at once. Each asks for the ETag that the first one had."""
        config, offset, version = self._config, item.byte_offset or 0, [item.etag]

        def read(start: int, end: int) -> None:
            def accept(answer: Answer) -> Write:
                whole = answer.total if item.byte_offset is None else size_bytes
                check(whole - (end - start) + answer.length, answer.etag)
                return lambda data, position: media.write(data, start + position)

            def once() -> None:
                arguments = _arguments(replace(item, etag=version[0]))
                arguments["Range"] = f"bytes={offset + start}-{offset + end - 1}"
                answer = self._client.stream(arguments, accept=accept, on_thread=config.spill.on_disk(size_bytes))
                version[0] = version[0] or answer.etag

            with_retries(config.retry, once)

        with kept(with_retries(config.retry, lambda: config.spill.room(size_bytes))) as media:
            read_in_parts(size_bytes, config.part_bytes, config.parts_at_once, read)
        return media


def _arguments(item: CatalogItem) -> dict[str, Any]:
    """Of a GET that the store itself refuses where the object has another ETag than the catalog."""
    bucket, key = split_s3_uri(item.uri)
    arguments = {"Bucket": bucket, "Key": key}
    if item.etag:
        arguments["IfMatch"] = f'"{item.etag}"'
    return arguments
