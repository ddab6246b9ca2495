"""Lists a folder tree in the order in which S3 lists keys, one folder's names in memory at a time."""

import contextlib
import errno
import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from storage.backends import Entry

logger = logging.getLogger(__name__)


def list_files(root: Path, prefix: str, *, skip: str) -> Iterator[Entry]:
    """Files below `root` whose relative path starts with `prefix`, in byte order of that path.

    Links are followed, loops are not. `skip` is a name right below the root that is left out.
    """
    parent = prefix.rpartition("/")[0]
    yield from _walk(root, f"{parent}/" if parent else "", prefix, skip, ())


def _walk(root: Path, base: str, prefix: str, skip: str, above: tuple[tuple[int, int], ...]) -> Iterator[Entry]:
    try:
        status = os.stat(root / base)
    except (FileNotFoundError, NotADirectoryError):
        return
    here = (status.st_dev, status.st_ino)
    if here in above:
        _warn_once(f"{root / base} links to a folder above it: not listed again")
        return
    for name in _sorted_names(root / base):
        path = base + name
        if not (path.startswith(prefix) or (name.endswith("/") and prefix.startswith(path))):
            continue
        if name.endswith("/"):
            if path != f"{skip}/":
                yield from _walk(root, path, prefix, skip, (*above, here))
            continue
        with contextlib.suppress(FileNotFoundError):
            yield entry_of(path, os.stat(root / path))


def _sorted_names(folder: Path) -> list[str]:
    """Names in a folder, folders with `/` at their end: that is what makes the order that of whole paths."""
    names = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                kind = _kind_of(entry)
                if kind is None:
                    _warn_once(f"{entry.path} is a broken link or no ordinary file: left out")
                else:
                    names.append(entry.name + kind)
    except FileNotFoundError:
        return []
    names.sort(key=os.fsencode)
    return names


@functools.lru_cache(maxsize=1024)
def _warn_once(text: str) -> None:
    """A source is listed twice: to see what it is, and for its items."""
    logger.warning("%s", text)


def _kind_of(entry: "os.DirEntry[str]") -> str | None:
    """What stands behind a folder's name, and nothing behind a file's; None for what is neither."""
    try:
        return "/" if entry.is_dir() else "" if entry.is_file() else None
    except OSError as error:
        if error.errno != errno.ELOOP:  # a link that leads to itself
            raise
        return None


def entry_of(path: str, status: os.stat_result) -> Entry:
    """The listing entry of a local file."""
    return Entry(path=path, size_bytes=status.st_size, etag=local_etag(status), modified=status.st_mtime)


def local_etag(status: os.stat_result) -> str:
    """What stands for the content of a local file: its time of change and its size."""
    return f"{status.st_mtime_ns}-{status.st_size}"
