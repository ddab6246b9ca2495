"""Any other fsspec file system as a store: as good as its exclusive create.

Creating asks the file system for `mode="create"`, which Google Cloud Storage and Azure make atomic. None offers a
conditional replace through fsspec, so `replace` compares and then writes: two processes can both believe that they took
over a lease in the same instant. Create-only commits still keep their data apart. Pieces of an upload are objects of
their own under `.uploads/`, copied into the one object in the end: fsspec has no common way to put them together.
"""

import contextlib
import hashlib
import logging
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec

from storage.backends import Entry, Piece
from storage.faults import redact, without_password
from storage.fsspec_client import tried_once
from storage.fsspec_listing import list_files

logger = logging.getLogger(__name__)

_EXTRAS = {"gcs": ("gs", "gcs"), "azure": ("az", "abfs", "abfss", "adl")}
_PACKAGES = {"gcs": "gcsfs", "azure": "adlfs"}
_UPLOADS = ".uploads"


class FsspecBackend:
    """A folder or prefix of a file system that fsspec knows."""

    def __init__(self, uri: str) -> None:
        filesystem, base = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        self._filesystem: Any = tried_once(filesystem)
        self._base: str = base.rstrip("/")
        self._root = without_password(uri).rstrip("/") + "/"
        self._is_output = False

    @property
    def root(self) -> str:
        """The URI with `/` at its end, without password; a user names a container, `?` and `#` belong to names."""
        return self._root

    def check(self) -> None:
        """Refuses a file in the folder's place."""
        if self._filesystem.isfile(self._base):
            raise NotADirectoryError(self._base)

    def read(self, path: str) -> tuple[bytes, str]:
        """Content and its digest."""
        data: bytes = self._filesystem.cat_file(self._path(path))
        return data, hashlib.sha256(data).hexdigest()

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end)."""
        data: bytes = self._filesystem.cat_file(self._path(path), start=start, end=end)
        return data

    def size(self, path: str) -> int:
        """Length in bytes."""
        return int(self._filesystem.info(self._path(path))["size"])

    def create(self, path: str, data: bytes) -> bool:
        """Exclusive create."""
        if not self._is_output:
            self._is_output = True
            logger.warning(
                "%s: no conditional replace on this kind of store; run one job at a time", redact(self._root)
            )
        self._filesystem.makedirs(self._path(path).rpartition("/")[0], exist_ok=True)
        try:
            self._filesystem.pipe_file(self._path(path), data, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, path: str, data: bytes, token: str) -> bool:
        """Compares, then writes."""
        try:
            if self.read(path)[1] != token:
                return False
        except FileNotFoundError:
            return False
        self._filesystem.pipe_file(self._path(path), data)
        return True

    def page(self, prefix: str, after: str) -> tuple[Iterator[Entry], bool]:
        """The whole listing, one folder at a time."""
        return list_files(self._filesystem, self._base, prefix, after), False

    def names(self, folder: str) -> None:
        """Nothing is quicker than a listing."""
        return None

    def folders(self, prefix: str, token: str) -> tuple[Sequence[str], str]:
        """Folders right below, all at once."""
        try:
            found = self._filesystem.ls(self._path(prefix).rstrip("/"), detail=True)
        except FileNotFoundError:
            return [], ""
        folders = (info["name"].rstrip("/") for info in found if info["type"] == "directory")
        return sorted(name.rpartition("/")[2] for name in folders), ""

    def delete(self, paths: Sequence[str]) -> None:
        """Removes objects one by one."""
        for path in paths:
            if self._exists(path):
                self._filesystem.rm_file(self._path(path))

    def retract(self, path: str, token: str) -> None:
        """Leaves it: there is no conditional delete, and no folder to be left."""

    def start_upload(self, path: str) -> str:
        """A name for the folder of the pieces."""
        return uuid.uuid4().hex

    def put_piece(self, path: str, token: str, piece: Piece, data: bytes) -> str:
        """An object of its own."""
        place = f"{self._pieces(path, token)}/{piece.number}"
        self._filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)
        self._filesystem.pipe_file(place, data)
        return place

    def finish_upload(self, path: str, token: str, receipts: Sequence[str], size_bytes: int) -> bool:
        """Streams the pieces into one object, which such file systems show once it is closed. Looks, then writes."""
        created = not self._exists(path)
        if created:
            self._filesystem.makedirs(self._path(path).rpartition("/")[0], exist_ok=True)
            with self._filesystem.open(self._path(path), "wb") as file:
                for place in receipts:
                    file.write(self._filesystem.cat_file(place))
        self.abort_upload(path, token)
        return created

    def abort_upload(self, path: str, token: str) -> None:
        """Removes the pieces."""
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.rm(self._pieces(path, token), recursive=True)

    def open_uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """What lies in the folders of uploads."""
        base = self._path(_UPLOADS)
        found = self._filesystem.find(f"{base}/{prefix}".rstrip("/"))
        names = {name[len(base) + 1 :].rpartition("/")[0] for name in found}
        for path, _, token in sorted(name.rpartition("/") for name in names):
            yield path, token

    def _pieces(self, path: str, token: str) -> str:
        return f"{self._path(_UPLOADS)}/{path}/{token}"

    def sweep(self, min_age_seconds: float) -> int:
        """Nothing is left behind but uploads, which `open_uploads` names."""
        return 0

    def _exists(self, path: str) -> bool:
        """Whether there is an object; fsspec's own `exists` takes every error for a no."""
        try:
            self._filesystem.info(self._path(path))
        except FileNotFoundError:
            return False
        return True

    def _path(self, path: str) -> str:
        return f"{self._base}/{path}"


def missing_package(scheme: str) -> str:
    """What to install where fsspec knows a scheme and its package is not there."""
    extra = next((name for name, schemes in _EXTRAS.items() if scheme in schemes), None)
    if extra is None:
        return f"install the fsspec package for {scheme!r}"
    return f"{scheme}:// needs the package {_PACKAGES[extra]}: install it, or this project with the extra {extra!r}"
