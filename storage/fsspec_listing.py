"""Lists any fsspec file system in the order in which S3 lists keys, folder by folder.

Held are the entries of one folder and what is left of those above it. A folder costs one listing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from inspect import signature
from typing import Any, TypeAlias

from fsspec import AbstractFileSystem

from storage.azure_listing import azure_infos, is_azure
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

    Names that go on with another `/` are not in a listing of gcsfs's: such a folder shows itself as one in it, as one
    with a marker does. They are searched for.
    """
    whole = f"{base}/{folder}".rstrip("/")
    if is_azure(filesystem):
        entries = _named(base, azure_infos(filesystem, f"{base}/{folder}"))
    elif folder.endswith("//") or folder == "/":
        infos: Mapping[str, Mapping[str, Any]] = filesystem.find(whole, detail=True, prefix="/")
        entries = _named(base, (info for name, info in infos.items() if name.startswith(f"{base}/{folder}")))
    else:
        found = [{**info, "name": _plain(info)} for info in _infos(filesystem, whole)]
        entries = _named(base, (info for info in found if _is_right_in(info["name"], whole)))
        itself = any(info["name"] == (whole if info["type"] == "directory" else f"{whole}/") for info in found)
        if itself and "prefix" in signature(_find_of(filesystem)).parameters:
            entries[f"{folder}/"] = None
    return sorted(entries.items(), key=lambda one: path_order(one[0]))


def _plain(info: Mapping[str, Any]) -> str:
    name = str(info["name"])
    return name.rstrip("/") if info["type"] == "directory" else name


def _is_right_in(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/") and "/" not in name[len(folder) + 1 :].rstrip("/")


def _named(base: str, infos: Iterable[Mapping[str, Any]]) -> dict[str, Entry | None]:
    """Objects and folders by path; an object whose name ends in `/` marks a folder and is none."""
    entries: dict[str, Entry | None] = {}
    for info in infos:
        path = str(info["name"])[len(base) + 1 :]
        if info["type"] == "directory":
            entries[path if path.endswith("/") else f"{path}/"] = None
        elif not path.endswith("/"):
            entries[path] = _entry(path, info)
    return entries


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
