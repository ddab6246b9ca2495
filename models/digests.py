"""Digests of files, remembered from one command to the next: a model's gigabytes are read once, not at each start."""

import contextlib
import hashlib
import os
from functools import lru_cache
from pathlib import Path

REMEMBERED = Path("~/.cache/reelscribe/digests")
"""A file for each one remembered; it may be removed at any time."""
SMALL_BYTES = 8 << 20
"""What is smaller is read as fast as it is looked up."""


def file_digest(path: Path) -> str:
    """40 hexadecimal characters over a file's bytes, read only where its size or a time of it is new.

    Raises:
        OSError: It cannot be read.
    """
    stat = os.stat(path)
    # The change time moves with each write, also where the modification time is set back after it.
    return _digest(str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=4096)
def _digest(path: str, size_bytes: int, modified_ns: int, changed_ns: int) -> str:
    if size_bytes < SMALL_BYTES:
        return _read(path)
    key = hashlib.blake2b(f"{size_bytes} {modified_ns} {changed_ns} {path}".encode("utf-8", "surrogateescape"))
    try:
        memory = REMEMBERED.expanduser() / key.hexdigest()[:40]
    except RuntimeError:  # a user without a home
        return _read(path)
    with contextlib.suppress(OSError):
        digest = memory.read_text("ascii", errors="replace")
        if len(digest) == 40:
            return digest
    digest = _read(path)
    with contextlib.suppress(OSError):  # a home that takes nothing: read again next time
        memory.parent.mkdir(parents=True, exist_ok=True)
        scratch = memory.with_name(f"{memory.name}.{os.getpid()}")
        scratch.write_text(digest)
        scratch.replace(memory)
    return digest


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
