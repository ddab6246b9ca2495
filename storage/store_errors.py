"""What a store raises, as the project's own errors: told by type, in one line without a credential."""

import errno

from records.errors import FailureKind, TransientError, UserError
from storage.faults import TRANSIENT, classify, describe, is_refusal, redact, s3_status

_USER_ERRNO = {
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "larger than a file may be here",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EISDIR: "this is a folder, not a file",
    errno.ENOTDIR: "this or a folder above it is a file, not a folder",
}


def raise_typed(root: str, path: str, error: Exception) -> None:
    """Raises an error of a store as what it means; returns where it is no fault of a store.

    Args:
        root: The store's URI.
        path: What was asked for, relative to it.
        error: As the backend raised it.

    Raises:
        UserError: The store is missing, full or read-only, or refuses what it was asked.
        TransientError: It was throttled, unreachable or too slow.
        FileNotFoundError: There is no such object.
    """
    kind = classify(error)
    where = redact(root + path)
    if s3_status(error)[1] == "NoSuchBucket":
        raise UserError(f"{root}: there is no such bucket") from None
    if isinstance(error, OSError) and error.errno in _USER_ERRNO and not s3_status(error)[0]:
        raise UserError(f"{where}: {_USER_ERRNO[error.errno]}") from None
    if kind is FailureKind.FORBIDDEN:
        wanted = "credentials and permissions" if "://" in root else "permissions"
        raise UserError(f"{where}: access refused ({describe(error)}): check {wanted}") from None
    if kind is not None and kind in TRANSIENT:
        raise TransientError(kind, f"{where}: {kind} ({describe(error)})") from None
    if kind is FailureKind.NOT_FOUND:
        raise FileNotFoundError(errno.ENOENT, "no such object", where) from None
    if is_refusal(error):
        raise UserError(f"{where}: the store refuses this ({describe(error)})") from None
