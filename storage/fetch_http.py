"""Items from the web, by plain or presigned URL, straight into the file that the decoder maps.

A large one comes in ranges where its server serves them and gives an ETag, so that all are of one version; else, as a
small one, in one request.
"""

import contextlib
from dataclasses import replace

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.faults import with_retries
from storage.fetch_check import CatalogCheck
from storage.fetch_config import FetchConfig
from storage.fetch_room import kept, read_in_parts
from storage.fetched import FetchedMedia
from storage.http_client import HttpClient, HttpReply, NoRangesError, Write


class HttpReader:
    """Reads items over shared connections. Safe between threads."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._client = HttpClient(config.limits, connections=config.in_flight.max_objects * 2)

    def read(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        """The item's bytes.

        Raises:
            BadItemError: `changed`, `too_large`, `unsupported`.
            OSError: As `storage.faults.classify` understands it, after the last try.
        """
        if item.byte_offset is not None and item.size_bytes == 0:
            return FetchedMedia.empty(0)
        if item.size_bytes is not None and item.size_bytes > self._config.part_bytes:
            with contextlib.suppress(NoRangesError):
                return self._read_parts(item, item.size_bytes, check)
        return with_retries(self._config.retry, lambda: self._read(item, check))

    def _read_parts(self, item: CatalogItem, size_bytes: int, check: CatalogCheck) -> FetchedMedia:
        """Ranges, several at once, each of the version that the first one had.

        Raises:
            NoRangesError: The server serves none, or no ETag to tell versions by.
        """
        config, against, offset = self._config, [check], item.byte_offset or 0

        def read(start: int, end: int) -> None:
            def accept(reply: HttpReply) -> Write:
                against[0](reply.size_bytes if item.byte_offset is None else None, reply.etag)
                if not reply.etag:
                    raise NoRangesError(FailureKind.UNSUPPORTED, "the server does not say which version a range is of")
                if not start:
                    against[0] = CatalogCheck(replace(item, etag=reply.etag), config.max_bytes)
                return lambda data, position: media.write(data, start + position)

            def once() -> None:
                first, last = offset + start, offset + end
                came = self._client.stream(item.uri, start=first, end=last, accept=accept, max_bytes=end - start)
                against[0](size_bytes - (end - start) + came, "")

            with_retries(config.retry, once)

        with kept(with_retries(config.retry, lambda: config.spill.room(size_bytes))) as media:
            read_in_parts(size_bytes, config.part_bytes, config.parts_at_once, read)
        return media

    def facts(self, uri: str) -> tuple[int, str]:
        """Size and ETag of a whole object.

        Raises:
            BadItemError: `unsupported` where the server does not say how long it is.
        """
        reply = self._client.facts(uri)
        if reply.size_bytes is None:
            raise BadItemError(FailureKind.UNSUPPORTED, "the server does not say how long the file is")
        return reply.size_bytes, reply.etag

    def _read(self, item: CatalogItem, check: CatalogCheck) -> FetchedMedia:
        made: list[FetchedMedia] = []

        def accept(reply: HttpReply) -> Write:
            check(reply.body_bytes, reply.etag)
            made.append(self._config.spill.room(reply.body_bytes))
            return made[0].write

        ranged = item.byte_offset is not None and item.size_bytes is not None
        try:
            came = self._client.stream(
                item.uri,
                start=item.byte_offset if ranged else None,
                end=(item.byte_offset or 0) + (item.size_bytes or 0) if ranged else None,
                accept=accept,
                max_bytes=self._config.max_bytes if item.size_bytes is None else item.size_bytes,
            )
            check(came, "")
        except BaseException:
            for media in made:
                media.close()
            raise
        return made[0]
