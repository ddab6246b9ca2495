"""The objects of a source that are no videos themselves: lists, tars and Parquet files, by name or all of a folder."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from records.errors import UserError
from storage.backends import Entry
from storage.faults import describe, is_of_content, redact
from storage.local_listing import entry_of
from storage.source_items import LeftOut, LeftOutReason
from storage.stores import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceObject:
    """One object that holds or names items."""

    store: Store
    entry: Entry
    uri: str
    """As the fetcher opens it."""

    @property
    def name(self) -> str:
        """The URI for a message: nothing secret in it."""
        return redact(self.uri)


def split_uri(uri: str) -> tuple[str, str]:
    """Folder and name of an object's URI; a query belongs to the name."""
    path, mark, query = uri.partition("?") if is_web(uri) else (uri, "", "")
    folder, _, name = path.rpartition("/")
    return folder or ("/" if uri.startswith("/") else "."), f"{name}{mark}{query}"


def object_name(uri: str) -> str:
    """The last part of a URI's path in lower case, without a query: what its format is told by."""
    return split_uri(uri)[1].partition("?")[0].lower() if "://" in uri else split_uri(uri)[1].lower()


def open_object(uri: str) -> SourceObject | None:
    """One object by its URI; None where that names a folder, as Spark's `videos.parquet/part-0.parquet`.

    Raises:
        UserError: There is neither.
    """
    if "://" in uri and "/" not in uri.partition("://")[2]:
        return None  # a whole bucket
    folder, name = split_uri(uri)
    store = Store.open(folder)
    try:
        # On disk no listing: the folder may hold millions of others.
        local = "://" not in store.root
        if local and os.path.isdir(store.uri(name)):
            return None
        entry = entry_of(name, os.stat(store.uri(name))) if local else store.entry(name)
    except (FileNotFoundError, NotADirectoryError):
        if "://" in store.root and not is_web(uri) and next(store.list(f"{name}/"), None) is not None:
            return None
        raise UserError(f"{redact(uri)}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{redact(uri)}: {os.strerror(error.errno or 0)}") from None
    return SourceObject(store=store, entry=entry, uri=uri if is_web(uri) else store.uri(name))


def is_web(uri: str) -> bool:
    """Whether it is an http(s) URL."""
    return uri[:8].lower().startswith(("http://", "https://"))


def has_unicode_name(source: SourceObject) -> bool:
    """Whether the object's URI can be stored: a file's name may be any bytes."""
    try:
        source.uri.encode()
    except UnicodeEncodeError:
        return False
    return True


def broken_file(source: SourceObject, error: Exception) -> LeftOut:
    """What a file leaves out that cannot be read from here on: items that are known from it count as gone.

    Raises:
        UserError: Its disk or store is to blame, which says nothing of its items.
    """
    if isinstance(error, OSError) and not is_of_content(error):
        raise UserError(f"{source.name} cannot be read: {describe(error)}") from None
    numbered = isinstance(error, OSError) and error.errno is not None
    words = describe(error) if numbered else " ".join(str(error).split()) or type(error).__name__
    return LeftOut(reason=LeftOutReason.BROKEN_FILE, name=f"{source.name}: {words}")


def source_objects(uri: str, endings: tuple[str, ...]) -> Iterator[SourceObject]:
    """The object that a URI names, or all objects of a folder whose names have one of these endings, in order.

    Names with a part that starts with a dot or an underscore (`_SUCCESS`, `_temporary/`) are left out.
    """
    if (object_name(uri).endswith(endings) or _is_object(uri)) and (one := open_object(uri)) is not None:
        yield one
        return
    store = Store.open(uri)
    for entry in store.list():
        if entry.path.lower().endswith(endings) and not is_hidden(entry.path):
            yield SourceObject(store=store, entry=entry, uri=store.uri(entry.path))


def _is_object(uri: str) -> bool:
    """Whether a URI whose name says nothing is one object; what is empty in a store may stand for a folder."""
    if "://" not in uri:
        return os.path.isfile(uri)
    if is_web(uri):
        return True
    folder, name = split_uri(uri)
    if folder.endswith(":/"):
        return False  # a whole bucket
    try:
        return Store.open(folder).size(name) > 0
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False


def is_hidden(path: str) -> bool:
    """Whether a part of a path says that it is not meant to be read."""
    return any(part.startswith((".", "_")) for part in path.split("/"))
