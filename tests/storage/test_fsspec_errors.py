"""What gcsfs and adlfs raise is told as S3's errors are, without either package and without the server's words."""

import types
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from records.errors import BadItemError, FailureKind, TransientError, UserError
from records.items import CatalogItem
from storage.faults import classify, describe
from storage.fetch import FetchConfig, Fetcher
from storage.fsspec_client import tried_once
from storage.stores import Store
from tests.storage.conftest import QUICK

SECRET = "https://host/?sig=SECRET the server's own text"


def module(name: str, source: str) -> types.ModuleType:
    made = types.ModuleType(name)
    exec(source, made.__dict__)  # its classes and frames must say that they are of this module
    return made


GCSFS = module(
    "gcsfs.retry",
    """
class HttpError(Exception):
    def __init__(self, error):
        self.code = error.get("code")
        super().__init__(error["message"])
class ChecksumError(Exception): pass
def validate_response(status, content, path):
    if status == 404:
        raise FileNotFoundError(path)
    if status == 403:
        raise OSError(f"Forbidden: {path} {content}")
    if status == 400:
        raise ValueError(f"Bad Request: {path} {content}")
    raise HttpError({"code": status, "message": content})
""",
)
GOOGLE = module(
    "google.auth.exceptions",
    """
class GoogleAuthError(Exception):
    retryable = False
class TransportError(GoogleAuthError): pass
class RefreshError(GoogleAuthError): pass
class Passing(RefreshError):
    retryable = True
""",
)
AZURE = module(
    "azure.core.exceptions",
    """
class AzureError(Exception): pass
class ServiceRequestError(AzureError): pass
class ServiceResponseError(AzureError): pass
class ServiceResponseTimeoutError(ServiceResponseError): pass
class HttpResponseError(AzureError):
    status_code = error_code = None
class ClientAuthenticationError(HttpResponseError): pass
class ResourceNotFoundError(HttpResponseError): pass
class IncompleteReadError(HttpResponseError):
    status_code = 206
""",
)
REQUESTS = module(
    "requests.exceptions",
    """
class RequestException(IOError): pass
class Timeout(RequestException): pass
class ProxyError(RequestException): pass
""",
)


class AzureCode(StrEnum):
    """As Azure's client gives its codes."""

    SERVER_BUSY = "ServerBusy"


def gcs(status: int) -> Exception:
    """An answer of Google's, raised as gcsfs raises it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever class it is
        GCSFS.validate_response(status, SECRET, "bucket/key")
    return caught.value


def azure(status: int, code: object = None) -> Exception:
    """An answer of Azure's."""
    error: Exception = AZURE.HttpResponseError(SECRET)
    error.status_code, error.error_code = status, code  # type: ignore[attr-defined] # Azure's own attributes
    return error


def wrapped(error: Exception, kind: type[Exception]) -> Exception:
    """What adlfs makes of some of Azure's."""
    try:
        raise kind(f"failed: {error}") from error
    except kind as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (gcs(429), FailureKind.THROTTLED, "HTTP 429"),
        (gcs(503), FailureKind.THROTTLED, "HTTP 503"),
        (gcs(500), FailureKind.UNREACHABLE, "HTTP 500"),
        (gcs(504), FailureKind.TIMEOUT, "HTTP 504"),
        (gcs(401), FailureKind.FORBIDDEN, "HTTP 401"),
        (gcs(403), FailureKind.FORBIDDEN, "HTTP 403"),
        (gcs(404), FailureKind.NOT_FOUND, "HTTP 404"),
        (gcs(400), None, "HTTP 400"),
        (GCSFS.HttpError({"code": "503", "message": SECRET}), FailureKind.THROTTLED, "HTTP 503"),
        (GCSFS.HttpError({"code": SECRET, "message": SECRET}), None, "HttpError"),
        (GCSFS.ChecksumError(SECRET), FailureKind.UNREACHABLE, "ChecksumError"),
        (GOOGLE.TransportError(SECRET), FailureKind.UNREACHABLE, "TransportError"),
        (GOOGLE.RefreshError(SECRET), FailureKind.FORBIDDEN, "RefreshError"),
        (GOOGLE.Passing(SECRET), FailureKind.UNREACHABLE, "Passing"),
        (REQUESTS.ProxyError(SECRET), FailureKind.UNREACHABLE, "ProxyError"),
        (REQUESTS.Timeout(SECRET), FailureKind.TIMEOUT, "Timeout"),
        (azure(503, AzureCode.SERVER_BUSY), FailureKind.THROTTLED, "ServerBusy (503)"),
        (azure(403, "AuthorizationFailure"), FailureKind.FORBIDDEN, "AuthorizationFailure (403)"),
        (azure(403, SECRET), FailureKind.FORBIDDEN, "HTTP 403"),
        (azure(404, "BlobNotFound"), FailureKind.NOT_FOUND, "BlobNotFound (404)"),
        (azure(409), None, "HTTP 409"),
        (AZURE.ServiceRequestError(SECRET), FailureKind.UNREACHABLE, "ServiceRequestError"),
        (AZURE.ServiceResponseTimeoutError(SECRET), FailureKind.TIMEOUT, "ServiceResponseTimeoutError"),
        (AZURE.ClientAuthenticationError(SECRET), FailureKind.FORBIDDEN, "ClientAuthenticationError"),
        (AZURE.ResourceNotFoundError(SECRET), FailureKind.NOT_FOUND, "ResourceNotFoundError"),
        (AZURE.IncompleteReadError(SECRET), FailureKind.UNREACHABLE, "IncompleteReadError"),
        (wrapped(azure(503), RuntimeError), FailureKind.THROTTLED, "HTTP 503"),
        (wrapped(AZURE.ServiceRequestError(SECRET), ValueError), FailureKind.UNREACHABLE, "ValueError"),
        (OSError(f"Forbidden: {SECRET}"), None, "OSError"),
        (RuntimeError(SECRET), None, "RuntimeError"),
    ],
)
def test_is_told_by_class_and_status(error: Exception, kind: FailureKind | None, words: str) -> None:
    assert classify(error) is kind
    assert describe(error) == words


class FailingFileSystem(MemoryFileSystem):  # type: ignore[misc] # fsspec ships no types
    """Raises what the package behind it would, at every request."""

    protocol = "failing"
    cachable = False
    fail: Callable[[], NoReturn]
    asked = 0

    def ls(self, *path: object, **options: object) -> None:
        """Fails."""
        type(self).asked += 1
        self.fail()

    info = cat_file = pipe_file = ls


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Has every request of `failing://` end in an error."""
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)

    def set_error(error: Exception) -> None:
        def fail() -> NoReturn:
            raise error

        monkeypatch.setattr(FailingFileSystem, "fail", staticmethod(fail), raising=False)
        monkeypatch.setattr(FailingFileSystem, "asked", 0)

    return set_error


ANSWERS = [
    (gcs(429), FailureKind.THROTTLED), (gcs(403), FailureKind.FORBIDDEN), (gcs(500), FailureKind.UNREACHABLE),
    (azure(503), FailureKind.THROTTLED), (azure(403), FailureKind.FORBIDDEN), (azure(404), FailureKind.NOT_FOUND),
    (AZURE.ServiceRequestError(SECRET), FailureKind.UNREACHABLE),
]  # fmt: skip


@pytest.mark.parametrize(("error", "kind"), ANSWERS)
def test_an_item_fails_by_kind_after_our_own_tries(
    failing: Callable[[Exception], None], error: Exception, kind: FailureKind
) -> None:
    failing(error)
    item = CatalogItem(video_id="a", version=1, uri="failing://account@bucket/a.mp4?sig=SECRET", size_bytes=5, etag="")
    with pytest.raises(BadItemError) as caught:
        Fetcher(FetchConfig(retry=QUICK))(item)
    assert caught.value.kind is kind
    assert str(caught.value) == f"failing://account@bucket/a.mp4: {describe(error)}"
    passes = kind in (FailureKind.THROTTLED, FailureKind.UNREACHABLE)
    assert FailingFileSystem.asked == (QUICK.attempts if passes else 1)


@pytest.mark.parametrize(("error", "kind"), ANSWERS)
def test_a_store_is_typed_in_one_line(
    failing: Callable[[Exception], None], error: Exception, kind: FailureKind
) -> None:
    failing(error)
    store = Store.open("failing://bucket/in", retry=QUICK)
    wanted = {FailureKind.FORBIDDEN: UserError, FailureKind.NOT_FOUND: FileNotFoundError}.get(kind, TransientError)
    asks: list[Callable[[], object]] = [
        lambda: list(store.list()),
        lambda: store.folders("x/"),
        lambda: store.delete(["x"]),
        lambda: store.read_bytes("x"),
    ]
    for ask in asks:
        FailingFileSystem.asked = 0
        with pytest.raises(wanted) as caught:
            ask()
        assert "failing://bucket/in/" in str(caught.value)
        assert "SECRET" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert FailingFileSystem.asked == (QUICK.attempts if wanted is TransientError else 1)


def test_what_a_store_refuses_is_the_users_to_mend(failing: Callable[[Exception], None]) -> None:
    failing(gcs(400))
    with pytest.raises(UserError, match=r"^failing://bucket/x: the store refuses this \(HTTP 400\)$"):
        Store.open("failing://bucket", retry=QUICK).read_bytes("x")


def test_bugs_stay_bugs(failing: Callable[[Exception], None]) -> None:
    failing(KeyError("a bug"))
    with pytest.raises(KeyError):
        Fetcher(FetchConfig(retry=QUICK))(
            CatalogItem(video_id="a", version=1, uri="failing://b/a", size_bytes=5, etag="")
        )


def test_retries_of_the_packages_are_off() -> None:
    class Policy:
        total_retries = 3

    policy = Policy()

    class FileSystem(MemoryFileSystem):  # type: ignore[misc] # fsspec ships no types
        cachable = False
        service_client = types.SimpleNamespace(_config=types.SimpleNamespace(retry_policy=policy))

        def _request(self) -> str:
            return "with retries"

        _request.__wrapped__ = lambda self: "once"  # type: ignore[attr-defined] # as a decorator leaves it

    assert tried_once(FileSystem())._request() == "once"
    assert policy.total_retries == 0
    assert tried_once(MemoryFileSystem()).protocol == "memory"
