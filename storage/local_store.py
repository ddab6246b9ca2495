"""A folder as an object store: whole files or none, created only once, replaced only by who read the last content.

A file is written under `<root>/.tmp/`, flushed to disk, and then hard-linked to its name: linking fails where the name
is taken, and a process killed at any point leaves either no file or the whole one. What a killed writer leaves in
`.tmp` is never listed and goes with `sweep`.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from storage.backends import Entry, Piece, path_order
from storage.local_listing import list_files

T = TypeVar("T")

TEMPORARY = ".tmp"
_LOCK = "lock"
_UPLOADS = "uploads"
_FOLDER_TRIES = 20
"""Another process may remove a folder as often as it makes one itself."""
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalBackend:
    """A folder. Safe for threads and processes, also on network file systems that honour flock."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.abspath(folder))
        self._found = self._folder
        """The lowest folder on the way to it that was there before."""

    @property
    def root(self) -> str:
        """The absolute folder with `/` at its end."""
        return f"{self._folder}/".replace("//", "/")

    def check(self) -> None:
        """Refuses a file in the folder's place; a missing folder is made at the first write."""
        if self._folder.exists() and not self._folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self._folder))
        self._found = next(above for above in (self._folder, *self._folder.parents) if above.exists())

    def read(self, path: str) -> tuple[bytes, str]:
        """Content and token of a file."""
        with open(self._folder / path, "rb") as file:
            return file.read(), _token(os.fstat(file.fileno()))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of a file."""
        with open(self._folder / path, "rb") as file:
            file.seek(start)
            return file.read(end - start)

    def size(self, path: str) -> int:
        """Length in bytes."""
        status = (self._folder / path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return status.st_size

    def create(self, path: str, data: bytes) -> bool:
        """Writes a file only if its name is free."""
        final = self._folder / path
        if final.exists():
            return False
        with self._written(data) as temporary:
            return self._name(temporary, final)

    def replace(self, path: str, data: bytes, token: str) -> bool:
        """Swaps a file's content where it is still the one that has this token."""
        final = self._folder / path
        with self._written(data) as temporary, self._locked():
            try:
                if _token(final.stat()) != token:
                    return False
            except FileNotFoundError:
                return False
            os.replace(temporary, final)
        _flush_folder(final.parent)
        return True

    def page(self, prefix: str, after: str) -> tuple[Iterator[Entry], bool]:
        """Files in order of their paths, in one page that is read as it is walked."""
        found = list_files(self._folder, prefix, skip=TEMPORARY)
        return (entry for entry in found if path_order(entry.path) > path_order(after)), False

    def names(self, folder: str) -> Iterator[str]:
        """Names of the files in a folder, as the directory gives them: no file is looked at."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder / folder) as found:
            for entry in found:
                if not entry.is_dir(follow_symlinks=False):
                    yield entry.name

    def folders(self, prefix: str, token: str) -> tuple[Sequence[str], str]:
        """Folders right below, all at once."""
        try:
            with os.scandir(self._folder / prefix) as found:
                return sorted(entry.name for entry in found if entry.is_dir() and entry.name != TEMPORARY), ""
        except FileNotFoundError:
            return [], ""

    def delete(self, paths: Sequence[str]) -> None:
        """Removes files, and the folders that this leaves empty."""
        for path in paths:
            file = self._folder / path
            file.unlink(missing_ok=True)
            for folder in file.parents:
                if folder == self._folder:
                    break
                try:
                    folder.rmdir()
                except OSError:
                    break

    def retract(self, path: str, token: str) -> None:
        """Removes the file, and the folders that were made for it."""
        temporary = self._folder / TEMPORARY
        with contextlib.suppress(OSError), self._locked():  # who writes meanwhile has put a file there before
            if _token((self._folder / path).stat()) != token or os.listdir(temporary) != [_LOCK]:
                return
            if any(entry.path != path for entry in list_files(self._folder, "", skip=TEMPORARY)):
                return
            self.delete([path])
            (temporary / _LOCK).unlink()
            temporary.rmdir()
            for folder in (self._folder, *self._folder.parents):
                if folder == self._found:
                    return
                folder.rmdir()

    def start_upload(self, path: str) -> str:
        """An empty file of its own, in a folder that says what it will become."""
        token = f"{uuid.uuid4().hex}.part"
        file = self._upload(path, token)
        _in_folder(file.parent, lambda: file.touch(exist_ok=False))
        return token

    def put_piece(self, path: str, token: str, piece: Piece, data: bytes) -> str:
        """Writes at the piece's place; every process must see the folder."""
        with open(self._upload(path, token), "r+b") as file:
            file.seek(piece.offset)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return str(len(data))

    def finish_upload(self, path: str, token: str, receipts: Sequence[str], size_bytes: int) -> bool:
        """Gives the file its name, if that is free."""
        temporary = self._upload(path, token)
        try:
            return self._name(temporary, self._folder / path)
        finally:
            temporary.unlink(missing_ok=True)

    def abort_upload(self, path: str, token: str) -> None:
        """Removes the file."""
        self._upload(path, token).unlink(missing_ok=True)

    def open_uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """What lies in the folders of uploads."""
        base = self._folder / TEMPORARY / _UPLOADS
        for file in sorted((base / prefix).rglob("*.part")):
            yield file.parent.relative_to(base).as_posix(), file.name

    def _upload(self, path: str, token: str) -> Path:
        return self._folder / TEMPORARY / _UPLOADS / path / token

    def sweep(self, min_age_seconds: float) -> int:
        """Removes what killed writers left, if older than this; returns how many files."""
        removed = 0
        for file in (self._folder / TEMPORARY).rglob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime >= min_age_seconds:
                    file.unlink()
                    removed += 1
        return removed

    @contextlib.contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """A temporary file on disk that holds the data; gone at the end, unless renamed away."""
        temporary = self._folder / TEMPORARY / f"{uuid.uuid4().hex}.part"
        try:
            with _in_folder(temporary.parent, lambda: open(temporary, "xb")) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _name(self, temporary: Path, final: Path) -> bool:
        """Gives a file on disk its name; False where the name is taken."""
        try:
            _in_folder(final.parent, lambda: os.link(temporary, final))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # No hard links here (exFAT, some network mounts): the lock makes look and rename one step.
            with self._locked():
                if final.exists():
                    return False
                os.replace(temporary, final)
        _flush_folder(final.parent)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the folder's lock; the kernel lets go of it when its holder dies."""
        place = self._folder / TEMPORARY / _LOCK
        while True:
            with open(place, "a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file.fileno()).st_nlink:  # else it was retracted while this one waited
                    yield
                    return


def _token(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"


def _in_folder(folder: Path, make: Callable[[], T]) -> T:
    """Makes something in a folder that another process may remove as empty at the same moment."""
    for last_try in (*(_FOLDER_TRIES - 1) * (False,), True):
        try:
            _make_folder(folder)
            return make()
        except FileNotFoundError:
            if last_try:
                raise
    raise AssertionError("the last try returns or raises")


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        FileNotFoundError: One went in the same moment.
        NotADirectoryError: A file has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # pathlib's, where it is no folder once it looks: a file, or gone by then
        if folder.exists():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder)) from None


def _flush_folder(folder: Path) -> None:
    """Makes a new name survive a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
