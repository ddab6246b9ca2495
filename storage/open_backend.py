"""Which kind of store a URI names."""

import contextlib
from pathlib import Path

from records.errors import UserError
from storage.backends import Backend
from storage.faults import TimeLimits, redact, without_password
from storage.fsspec_store import FsspecBackend, missing_package
from storage.http_store import HttpBackend
from storage.local_store import LocalBackend
from storage.s3_store import S3Backend


def open_backend(uri: str, limits: TimeLimits) -> Backend:
    """The backend for a path or URI; nothing is asked of it yet.

    Raises:
        UserError: It names none, or one whose package is not installed, says which; or a password is in it.
    """
    given, separator, rest = uri.partition("://")
    scheme = given.lower()
    if not uri:
        raise UserError("an empty URI names no store")
    if not separator:
        return LocalBackend(Path(uri).expanduser())
    if scheme == "file":
        return LocalBackend(Path(rest))
    if scheme not in ("http", "https") and without_password(uri) != uri:
        raise UserError(f"{redact(uri)}: no password belongs into a URI, which is stored: {_instead(scheme)}")
    if scheme in ("s3", "s3a"):
        return S3Backend(uri, limits)
    if scheme in ("http", "https"):
        return HttpBackend(uri, limits)
    with contextlib.suppress(ImportError):
        try:
            return FsspecBackend(uri)
        except ValueError:
            raise UserError(f"{redact(uri)}: unknown kind of store {scheme!r}") from None
    raise UserError(f"{redact(uri)}: {missing_package(scheme)}")


def _instead(scheme: str) -> str:
    if scheme in ("s3", "s3a"):
        return "S3 finds credentials in the environment (AWS_ACCESS_KEY_ID, …), a profile or the machine's role"
    return f"fsspec finds it in FSSPEC_{scheme.upper()}_PASSWORD or in a file of ~/.config/fsspec"
