"""Lists any fsspec file system in the order in which S3 lists keys, folder by folder.

Held are the entries of one folder and what is left of those above it. A folder costs one listing.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from inspect import signature
from typing import Any, TypeAlias

from fsspec import AbstractFileSystem

from storage.backends import Entry, path_order

Named: TypeAlias = list[tuple[str, Entry | None]]
"""Paths with their files' entries; None for a folder, whose path ends in `/`."""


def list_files(filesystem: AbstractFileSystem, base: str, prefix: str, after: str) -> Iterator[Entry]:
    """Files below `base` whose relative path starts with `prefix` and sorts behind `after`, in byte order of that path.

    Args:
        filesystem: Of fsspec.
        base: The folder's path as the file system names it, without `/` at its end.
    """
    parent = prefix.rpartition("/")[0]
    yield from _walk(filesystem, base, f"{parent}/" if parent else "", prefix, after)


def _walk(filesystem: AbstractFileSystem, base: str, folder: str, prefix: str, after: str) -> Iterator[Entry]:
    left = _sorted_entries(filesystem, base, folder)
    left.reverse()
    while left:
        path, entry = left.pop()
        if entry is not None:
            if path.startswith(prefix) and path_order(path) > path_order(after):
                yield entry
        elif _may_hold(path, prefix) and (path_order(path) > path_order(after) or after.startswith(path)):
            yield from _walk(filesystem, base, path, prefix, after)


def _may_hold(folder: str, prefix: str) -> bool:
    return folder.startswith(prefix) or prefix.startswith(folder)


def _sorted_entries(filesystem: AbstractFileSystem, base: str, folder: str) -> Named:
    """What lies right in a folder, by path; folders with `/` at their end, which gives the order of whole paths.

    Two kinds of names `ls` may not reach, and they are searched for: those that go on with another `/`, where a folder
    shows itself as one in it (gcsfs does so, also for a marker), and those below an object of the folder's own name or
    a marker, where `ls` shows that alone (adlfs).
    """
    whole = f"{base}/{folder}".rstrip("/")
    if folder.endswith("//") or folder == "/":
        return _found(filesystem, base, whole, folder, prefix="/")
    entries: dict[str, Entry | None] = {}
    kinds_of_itself = set()
    for info in _infos(filesystem, whole):
        name, is_folder = str(info["name"]), info["type"] == "directory"
        path = name.rstrip("/")[len(base) + 1 :]
        if name.rstrip("/") == whole:
            kinds_of_itself.add("directory" if name != whole else info["type"])
        elif path.startswith(folder) and "/" not in path[len(folder) :] and (is_folder or not name.endswith("/")):
            entries[f"{path}/" if is_folder else path] = None if is_folder else _entry(path, info)
    if "directory" in kinds_of_itself and "prefix" in signature(_find_of(filesystem)).parameters:
        entries[f"{folder}/"] = None
    if not entries and "file" in kinds_of_itself:
        return _found(filesystem, base, whole.rpartition("/")[0] or whole, folder)
    return sorted(entries.items(), key=lambda one: path_order(one[0]))


def _infos(filesystem: AbstractFileSystem, folder: str) -> list[Mapping[str, Any]]:
    try:
        found: list[Mapping[str, Any]] = filesystem.ls(folder, detail=True)
    except FileNotFoundError:
        return []
    return found


def _find_of(filesystem: AbstractFileSystem) -> Callable[..., object]:
    """The method that says what `find` takes: of file systems that wait for answers, `_find`."""
    find: Callable[..., object] = getattr(filesystem, "_find", filesystem.find)
    return find


def _found(
    filesystem: AbstractFileSystem, base: str, whole: str, folder: str, **options: str
) -> list[tuple[str, Entry | None]]:
    """All that lies below a folder, at any depth."""
    infos: Mapping[str, Mapping[str, Any]] = filesystem.find(whole, detail=True, **options)
    entries: Named = []
    for name, info in infos.items():
        path = name[len(base) + 1 :]
        if name.startswith(f"{base}/{folder}") and not name.endswith("/"):
            entries.append((path, _entry(path, info)))
    return sorted(entries, key=lambda one: path_order(one[0]))


def _entry(path: str, info: Mapping[str, Any]) -> Entry:
    return Entry(path=path, size_bytes=int(info.get("size") or 0), etag=etag_of(info), modified=_modified(info))


def etag_of(info: Mapping[str, Any]) -> str:
    """What a file system says of a file's content: ETag, checksum, else time of change and size; may be empty."""
    for key in ("ETag", "etag", "md5Hash", "content_md5"):
        if info.get(key):
            return str(info[key]).strip('"')
    modified = _modified(info)
    return f"{modified:.6f}-{info.get('size')}" if modified else ""


def _modified(info: Mapping[str, Any]) -> float:
    for key in ("LastModified", "mtime", "last_modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return 0.0
