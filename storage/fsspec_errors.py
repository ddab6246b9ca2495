"""What gcsfs and adlfs raise, told by the classes' names and the status they carry: neither package need be there.

gcsfs raises `gcsfs.retry.HttpError` with a `code`, but of a 403 a bare OSError and of some answers a ValueError; adlfs
lets through what Azure's own client raises. Texts are never looked at: they are the server's.
"""

import re
from collections.abc import Iterator

from records.errors import FailureKind

_KINDS = {
    "azure.core.exceptions.ServiceRequestTimeoutError": FailureKind.TIMEOUT,
    "azure.core.exceptions.ServiceResponseTimeoutError": FailureKind.TIMEOUT,
    "azure.core.exceptions.ServiceRequestError": FailureKind.UNREACHABLE,
    "azure.core.exceptions.ServiceResponseError": FailureKind.UNREACHABLE,
    "azure.core.exceptions.IncompleteReadError": FailureKind.UNREACHABLE,
    "azure.core.exceptions.ClientAuthenticationError": FailureKind.FORBIDDEN,
    "azure.core.exceptions.ResourceNotFoundError": FailureKind.NOT_FOUND,
    "gcsfs.retry.ChecksumError": FailureKind.UNREACHABLE,
    "google.auth.exceptions.TransportError": FailureKind.UNREACHABLE,
    "google.auth.exceptions.GoogleAuthError": FailureKind.FORBIDDEN,
    "requests.exceptions.Timeout": FailureKind.TIMEOUT,
    "requests.exceptions.RequestException": FailureKind.UNREACHABLE,
}
"""Classes that may come without an HTTP status; the first of an error's own and inherited ones counts."""

_PACKAGES = ("gcsfs", "google", "azure", "adlfs", "requests")
_VALIDATE = ("gcsfs.retry", "validate_response")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def fsspec_answer(error: BaseException) -> tuple[int, str]:
    """The HTTP status and Azure's error code behind an error, or (0, "") where it did not come from an answer."""
    for cause in _chain(error):
        status = _status(cause)
        if status:
            code = getattr(cause, "error_code", None)
            code = getattr(code, "value", code)
            return status, code if isinstance(code, str) and _CODE.fullmatch(code) else ""
    return 0, ""


def fsspec_kind(error: BaseException) -> FailureKind | None:
    """What an error without a status means, or None where it is no known one."""
    for cause in _chain(error):
        for name in _names(cause):
            if name in _KINDS:
                return FailureKind.UNREACHABLE if getattr(cause, "retryable", False) is True else _KINDS[name]
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _names(error: BaseException) -> Iterator[str]:
    return (f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)


def _status(error: BaseException) -> int:
    """The status of a failed answer, 0 where there is none."""
    if any(name.partition(".")[0] in _PACKAGES for name in _names(error)):
        for owner in (error, getattr(error, "response", None)):
            for attribute in ("status_code", "code"):
                status = _failed(getattr(owner, attribute, None))
                if status:
                    return status
    return _failed(_validated(error))


def _failed(status: object) -> int:
    """A number from 400 to 599; what servers put into their answers may be anything."""
    try:
        number = int(status)  # type: ignore[call-overload] # what is no number is caught
    except (TypeError, ValueError):
        return 0
    return number if 400 <= number <= 599 else 0


def _validated(error: BaseException) -> object:
    """The status that gcsfs was looking at when it raised an error of Python's own, which does not keep it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    frame = trace.tb_frame
    if (frame.f_globals.get("__name__"), frame.f_code.co_name) != _VALIDATE:
        return None
    return frame.f_locals.get("status")
