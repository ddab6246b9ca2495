"""Items from the web, by plain or presigned URL: one request each, straight into the file that the decoder maps."""

from records.errors import BadItemError, FailureKind
from records.items import CatalogItem
from storage.faults import with_retries
from storage.fetch_check import CatalogCheck
from storage.fetch_config import FetchConfig
from storage.fetched import FetchedMedia
from storage.http_client import HttpClient, HttpReply, Write


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
        return with_retries(self._config.retry, lambda: self._read(item, check))

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
