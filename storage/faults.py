"""What a store's errors mean, told by type and status code, and the one retry policy for those that may pass.

Inner retries (botocore's, s3fs's, gcsfs's, adlfs's) are switched off, so that attempts do not multiply: only here is
waited.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import botocore.exceptions as boto
import tenacity
from botocore.parsers import ResponseParserError

from records.errors import FailureKind
from storage.fsspec_errors import fsspec_answer, fsspec_kind

T = TypeVar("T")

TRANSIENT = frozenset({FailureKind.THROTTLED, FailureKind.UNREACHABLE, FailureKind.TIMEOUT, FailureKind.NO_SPACE})
"""Kinds that are tried again: what other items hold of a disk they give back."""

_THROTTLED = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "RequestThrottled",
}
_REFUSED = {
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "400",
}
"""The last is what botocore makes of a HEAD's 400, which has no body to name the code: S3's answer to an old token."""
_UNREACHABLE_ERRNO = {
    errno.EIO,
    errno.ESTALE,
    errno.EBUSY,
    errno.EAGAIN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EREMOTEIO,
    errno.ENOTCONN,
}


class IncompleteReadError(ConnectionError):
    """Fewer bytes came than the store announced."""


class SpillError(Exception):
    """The worker's own disk, on which large items are set aside, is full or cannot be written."""


_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.ProfileNotFound,
    boto.ConfigNotFound,
)

STORE_ERRORS = (
    OSError,
    ImportError,
    ValueError,
    aiohttp.ClientError,
    boto.BotoCoreError,
    boto.ClientError,
    ResponseParserError,
    SpillError,
)
"""What reading from any store may raise, beside what `is_of_store` knows by name: neither a bug of ours nor a
`BadItemError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """How long a store may take. Never part of a fingerprint.

    Raises:
        ValueError: A limit is not positive.
    """

    connect_seconds: float = 10.0
    """Longest that a connection may take to open."""
    stall_seconds: float = 15.0
    """Longest wait for an answer to begin, and for each next byte of it."""
    request_seconds: float = 300.0
    """Longest that one request and its whole answer may take, however steadily bytes come."""

    def __post_init__(self) -> None:
        if min(self.connect_seconds, self.stall_seconds, self.request_seconds) <= 0:
            raise ValueError("limits: connect_seconds, stall_seconds and request_seconds must be positive")


class HttpStatusError(OSError):
    """A web server answered with a status that is no success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """How transient faults of a store are retried: exponential backoff with full jitter.

    Raises:
        ValueError: A number is below what makes sense.
    """

    attempts: int = 8
    """Tries in all; with the waits below they span 13 seconds on average."""
    first_wait_seconds: float = 0.2
    """Longest wait before the second try; doubles with each."""
    max_wait_seconds: float = 20.0
    """Longest wait between two tries."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_wait_seconds < 0 or self.max_wait_seconds < 0:
            raise ValueError("retry: attempts must be at least 1 and waits must not be negative")


def s3_status(error: BaseException | None) -> tuple[int, str]:
    """The HTTP status and S3 error code behind an error, or (0, "") where it did not come from an S3 response."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return int(status), str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return 0, ""


def answered(error: BaseException) -> tuple[int, str]:
    """The HTTP status behind an error, of any kind of store, and the error code of S3 or Azure."""
    status, code = s3_status(error)
    if status == 0 and isinstance(error, (aiohttp.ClientResponseError, HttpStatusError)):
        status = error.status
    return (status, code) if status else fsspec_answer(error)


def classify(error: BaseException) -> FailureKind | None:
    """What an error of a store means for the item being read, or None where it is none of a store's faults."""
    status, code = answered(error)
    if status:
        return _classify_status(status, code)
    if isinstance(error, (TimeoutError, boto.ConnectTimeoutError, boto.ReadTimeoutError)):
        return FailureKind.TIMEOUT
    if isinstance(
        error,
        (
            ConnectionError,
            boto.ConnectionError,
            boto.HTTPClientError,
            boto.IncompleteReadError,
            boto.FlexibleChecksumError,
            ResponseParserError,
        ),
    ):
        return FailureKind.UNREACHABLE
    if isinstance(error, SpillError):
        return FailureKind.NO_SPACE
    if isinstance(error, (aiohttp.ClientError, boto.ResponseStreamingError)):
        return FailureKind.UNREACHABLE
    if isinstance(error, (PermissionError, *_CREDENTIALS)):
        return FailureKind.FORBIDDEN
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
        return FailureKind.NOT_FOUND
    if isinstance(error, OSError) and error.errno in _UNREACHABLE_ERRNO:
        return FailureKind.UNREACHABLE
    return fsspec_kind(error)


def _classify_status(status: int, code: str) -> FailureKind | None:
    if code in _THROTTLED or status in (429, 503):
        return FailureKind.THROTTLED
    if code == "RequestTimeout" or status in (408, 504):
        return FailureKind.TIMEOUT
    if code in _REFUSED or status in (401, 403):
        return FailureKind.FORBIDDEN
    if status in (404, 410):
        return FailureKind.NOT_FOUND
    if status >= 500 or code in ("OperationAborted", "ConditionalRequestConflict", "IncompleteBody"):
        return FailureKind.UNREACHABLE
    return None


def is_refusal(error: BaseException) -> bool:
    """Whether a store answered that it will not do what it was asked: one of its keys is disabled, a header is wrong.

    An answer that the object ends before the range that was asked for is none.
    """
    status, _ = answered(error)
    return status not in (0, 416) and classify(error) is None


def is_of_store(error: BaseException) -> bool:
    """Whether an error is a store's: of a type that it may raise, or one that gcsfs or adlfs is known to raise."""
    return isinstance(error, STORE_ERRORS) or classify(error) is not None or answered(error)[0] != 0


def is_of_content(error: OSError) -> bool:
    """Whether an error while an object was read tells of the object: damaged, gone, or shorter than it was.

    What Arrow says of a damaged page has no number; all that has one is said by a disk or a store of itself.
    """
    return error.errno is None or isinstance(error, FileNotFoundError) or s3_status(error)[0] == 416


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later."""
    return classify(error) in TRANSIENT


def with_retries(config: RetryConfig, operation: Callable[[], T]) -> T:
    """Runs an operation until it succeeds, fails for good, or the attempts are used up; raises the last error."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_attempt(config.attempts),
        wait=tenacity.wait_random_exponential(multiplier=config.first_wait_seconds, max=config.max_wait_seconds),
        reraise=True,
    )
    return retrying(operation)


def describe(error: BaseException) -> str:
    """A few words on an error that cannot hold a credential: its code or its type, never its text."""
    status, code = answered(error)
    if status:
        return f"{code} ({status})" if code not in ("", str(status)) else f"HTTP {status}"
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return errno.errorcode[error.errno]
    return type(error).__name__


def redact(uri: str) -> str:
    """A URI without what may be secret: passwords and, for anything but a path or S3 key, the query.

    Of http(s) and S3 no user is kept either. Other kinds of store name their container or account there
    (`abfs://container@account…`), without which the URI would be another one.
    """
    uri = without_password(uri)
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme.lower() in ("s3", "s3a", "file"):
        return uri
    try:
        urlsplit(uri)
    except ValueError:  # no host can be told from what lies around it
        return f"{scheme}://…"
    return f"{scheme}://{rest.partition('?')[0].partition('#')[0]}"


def without_password(uri: str) -> str:
    """A URI without passwords, the same where it has none; of http(s) and S3 without the user as well.

    What stands before the `@` of `github://organisation:repository@commit/path` is none.
    """
    scheme, separator, rest = uri.partition("://")
    kind = scheme.lower()
    if not separator or kind in ("file", "github") or (kind in ("s3", "s3a") and rest.startswith("arn:")):
        return uri
    end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    user, at, host = rest[:end].rpartition("@")
    if kind in ("s3", "s3a"):
        # A secret key may hold slashes: a bucket's name has no colon.
        user, at, host = ("", "", rest.rpartition("@")[2]) if ":" in rest[:end] else ("", "", host + rest[end:])
        return f"{scheme}://{host if ':' not in host.partition('/')[0] else '…'}"
    if not at and _may_hide_a_password(host):
        return f"{scheme}://{rest.rpartition('@')[2]}" if "@" in rest else f"{scheme}://…"
    kept = "" if kind in ("http", "https") or not at else f"{user.partition(':')[0]}@"
    return f"{scheme}://{kept}{host}{rest[end:]}"


def _may_hide_a_password(host: str) -> bool:
    """Whether `host:port` is none: a password with a slash ends the host too early."""
    name, colon, port = host.rpartition(":")
    return bool(colon) and "[" not in name and not (port == "" or port.isdecimal())
