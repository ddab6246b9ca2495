"""The S3 connection of one process, on top of s3fs: one request a call, errors as s3fs translates them.

Credentials, region and endpoint come from where botocore looks (environment, profile, instance role,
`AWS_ENDPOINT_URL`). Where it finds no credentials at all, requests go out unsigned, which is what public buckets take.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fsspec
from botocore.exceptions import NoCredentialsError
from fsspec.asyn import sync

from records.errors import UserError
from storage.faults import IncompleteReadError

_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Object:
    """What a read returned."""

    data: bytes
    etag: str


class S3Client:
    """Sends requests to S3. Safe to share between threads; not across a fork."""

    def __init__(self) -> None:
        self._filesystem = _connect(anonymous=False)

    def call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """One request by its botocore name.

        Raises:
            OSError: As s3fs translates S3's error codes; `storage.faults.classify` says what it means.
        """
        try:
            response: dict[str, Any] = self._filesystem.call_s3(operation, **arguments)
        except NoCredentialsError:
            response = self._call_unsigned(operation, arguments)
        return response

    def _call_unsigned(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        unsigned = _connect(anonymous=True)
        try:
            response: dict[str, Any] = unsigned.call_s3(operation, **arguments)
        except PermissionError:
            # A role's credentials may have been late: let the next call look for them again.
            self._filesystem.connect(refresh=True)
            raise NoCredentialsError from None
        self._filesystem = unsigned
        return response

    def read(
        self,
        arguments: dict[str, Any],
        *,
        accept: Callable[[int, str], None] | None = None,
        timeout_seconds: float | None = None,
    ) -> S3Object:
        """The body of a GET. `accept` sees length and ETag before the body is read, and may raise.

        Raises:
            IncompleteReadError: The body ended early.
            TimeoutError: It was not complete in time.
        """
        response = self.call("get_object", arguments)
        body, length, etag = response["Body"], int(response["ContentLength"]), clean_etag(response["ETag"])
        try:
            if accept is not None:
                accept(length, etag)
            data: bytes = sync(self._filesystem.loop, body.read, timeout=timeout_seconds)
        finally:
            body.close()
        if len(data) != length:
            raise IncompleteReadError(f"{len(data)} of {length} bytes")
        return S3Object(data=data, etag=etag)


def _connect(*, anonymous: bool) -> Any:  # noqa: ANN401 - s3fs ships no types
    filesystem = fsspec.filesystem(
        "s3",
        anon=anonymous,
        use_listings_cache=False,
        config_kwargs={
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": _CONNECTIONS,
            "connect_timeout": 10,
            "read_timeout": 60,
        },
    )
    filesystem.retries = 1
    return filesystem


def clean_etag(etag: str) -> str:
    """An ETag without the quotes of its header."""
    return etag.strip('"')


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://` URI; the key exactly as written, an access point's ARN counting as a bucket.

    Raises:
        UserError: There is no bucket in it.
    """
    rest = uri.partition("://")[2]
    if rest.startswith("arn:"):
        kind, _, name = rest.partition("accesspoint")
        name, _, key = name[1:].partition("/")
        return f"{kind}accesspoint/{name}", key
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UserError(f"{uri} names no bucket: write s3://bucket/prefix")
    return bucket, key
