"""The S3 connection of one process, on top of s3fs: one request a call, errors as s3fs translates them.

Credentials, region and endpoint come from where botocore looks (environment, profile, instance role,
`AWS_ENDPOINT_URL`). Where it finds no credentials at all, requests go out unsigned, which is what public buckets take.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import fsspec
from botocore.exceptions import NoCredentialsError

from records.errors import UserError
from storage.faults import IncompleteReadError, TimeLimits, redact

T = TypeVar("T")

_CHUNK_BYTES = 256 * 1024
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")

Write = Callable[[bytes, int], None]
"""Takes the next bytes of a body and where in it they begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a GET says of its body before it comes."""

    length: int
    """Bytes of the body: of the object, or of the range that was asked for."""
    total: int
    """Bytes of the whole object."""
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Object:
    """What a read returned."""

    data: bytes
    etag: str


class S3Client:
    """Sends requests to S3. Safe to share between threads; not across a fork.

    Args:
        limits: How long a request may take.
        connections: How many are kept at most; further requests wait.
    """

    def __init__(self, limits: TimeLimits, *, connections: int = 64) -> None:
        self._limits = limits
        self._connections = connections
        self._filesystem = self._connect(anonymous=False)

    def call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """One request by its botocore name.

        Raises:
            OSError: As s3fs translates S3's error codes; `storage.faults.classify` says what it means.
        """

        async def request(filesystem: Any) -> dict[str, Any]:  # noqa: ANN401 - s3fs ships no types
            response: dict[str, Any] = await filesystem._call_s3(operation, **arguments)
            return response

        return self._sent(request)

    def read(self, arguments: dict[str, Any]) -> S3Object:
        """The whole body of a GET.

        Raises:
            IncompleteReadError: The body ended early.
            TimeoutError: It was not complete in time.
        """
        chunks: list[bytes] = []
        answer = self.stream(arguments, accept=lambda answer: lambda data, position: chunks.append(data))
        return S3Object(data=b"".join(chunks), etag=answer.etag)

    def stream(
        self, arguments: dict[str, Any], *, accept: Callable[[Answer], Write], on_thread: bool = False
    ) -> Answer:
        """The body of a GET, bit by bit.

        Args:
            arguments: Of `get_object`.
            accept: Sees the answer before its body is read and gives what takes the body; may raise.
            on_thread: Whether the body goes to what may block, such as a disk: then other answers do not wait for it.

        Raises:
            IncompleteReadError: The body ended early.
            TimeoutError: It was not complete in time.
        """
        return self._sent(lambda filesystem: _stream(filesystem, arguments, accept, on_thread))

    def _sent(self, request: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        try:
            return self._run(request(self._filesystem))
        except NoCredentialsError:
            return self._sent_unsigned(request)

    def _sent_unsigned(self, request: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        unsigned = self._connect(anonymous=True)
        try:
            response = self._run(request(unsigned))
        except PermissionError:
            # A role's credentials may have been late: let the next call look for them again.
            self._filesystem.connect(refresh=True)
            raise NoCredentialsError from None
        self._filesystem = unsigned
        return response

    def _run(self, request: Coroutine[Any, Any, T]) -> T:
        limited = asyncio.wait_for(request, self._limits.request_seconds)
        return asyncio.run_coroutine_threadsafe(limited, self._filesystem.loop).result()

    def _connect(self, *, anonymous: bool) -> Any:  # noqa: ANN401 - s3fs ships no types
        filesystem = fsspec.filesystem(
            "s3",
            anon=anonymous,
            use_listings_cache=False,
            config_kwargs={
                "retries": {"total_max_attempts": 1},
                "max_pool_connections": self._connections,
                "connect_timeout": self._limits.connect_seconds,
                "read_timeout": self._limits.stall_seconds,
            },
        )
        filesystem.retries = 1
        return filesystem


async def _stream(
    filesystem: Any,  # noqa: ANN401 - s3fs ships no types
    arguments: dict[str, Any],
    accept: Callable[[Answer], Write],
    on_thread: bool,
) -> Answer:
    response: dict[str, Any] = await filesystem._call_s3("get_object", **arguments)
    body, position = response["Body"], 0
    try:
        answer = _answer(response)
        write = accept(answer)
        while chunk := await body.read(_CHUNK_BYTES):
            if on_thread:
                await asyncio.to_thread(write, chunk, position)
            else:
                write(chunk, position)
            position += len(chunk)
    finally:
        body.close()
    if position != answer.length:
        raise IncompleteReadError(f"{position} of {answer.length} bytes")
    return answer


def _answer(response: dict[str, Any]) -> Answer:
    length = int(response["ContentLength"])
    total = str(response.get("ContentRange", "")).rpartition("/")[2]
    return Answer(length=length, total=int(total) if total.isdigit() else length, etag=clean_etag(response["ETag"]))


def clean_etag(etag: str) -> str:
    """An ETag without the quotes of its header."""
    return etag.strip('"')


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://` URI; the key exactly as written, an access point's ARN counting as a bucket.

    Raises:
        UserError: There is no bucket in it, or what is there cannot be one.
    """
    rest = uri.partition("://")[2]
    if rest.startswith("arn:"):
        kind, _, name = rest.partition("accesspoint")
        name, _, key = name[1:].partition("/")
        return f"{kind}accesspoint/{name}", key
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UserError(f"{redact(uri)} names no bucket: write s3://bucket/prefix")
    if not _BUCKET.fullmatch(bucket):
        # What stands there may be a secret that was pasted into the URI.
        raise UserError("s3://…: a bucket's name has 3 to 63 letters, digits, dots, hyphens and underscores")
    return bucket, key
