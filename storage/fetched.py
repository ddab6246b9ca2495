"""An item's bytes in a file without a name: written as they arrive, handed to another process by its descriptor.

So no process holds them on its heap, and none copies them to pass them on. Small ones lie in memory (memfd), large ones
in a file on disk that is gone with its last descriptor, whoever dies.
"""

import mmap
import os
import tempfile
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Literal


class FetchedMedia:
    """The bytes of one item, until closed. Whoever was given it closes it; it is a context manager.

    Args:
        descriptor: A file that holds them; closed with this object.
        size_bytes: How many they are.
        offset: Where in the file they begin.
        verify: Raises where the file may have changed since it was opened; only for a file that others can write.
    """

    def __init__(
        self, descriptor: int, size_bytes: int, *, offset: int = 0, verify: Callable[[], None] | None = None
    ) -> None:
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()
        self._verify = verify
        self._grows = False
        self.size_bytes = size_bytes
        self.offset = offset

    @classmethod
    def of_bytes(cls, data: bytes | memoryview) -> "FetchedMedia":
        """Bytes that a library gave as a whole, copied into memory that can be passed on."""
        media = cls.empty(len(data))
        media.write(data, 0)
        return media

    @classmethod
    def empty(cls, size_bytes: int | None, spill_folder: str | None = None) -> "FetchedMedia":
        """Room for so many bytes, to be written.

        Args:
            size_bytes: How many; None for as many as will be written.
            spill_folder: Where the file is made; None for memory.

        Raises:
            OSError: ENOSPC where there is not so much room on disk: all of it is taken at once.
        """
        if spill_folder is None:
            media = cls(os.memfd_create("media"), size_bytes or 0)
            os.truncate(media.descriptor, media.size_bytes)
        else:
            with tempfile.TemporaryFile(dir=spill_folder, prefix="reelscribe-", buffering=0) as file:
                if size_bytes:
                    os.posix_fallocate(file.fileno(), 0, size_bytes)
                media = cls(os.dup(file.fileno()), size_bytes or 0)
        media._grows = size_bytes is None
        return media

    @property
    def descriptor(self) -> int:
        """The file's descriptor.

        Raises:
            ValueError: It is closed.
        """
        if self._descriptor is None:
            raise ValueError("these bytes were closed")
        return self._descriptor

    def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
        """Writes all of the data at a position. Safe from several threads, also from one that nobody waits for.

        Raises:
            ValueError: It would go past the end, or the file was closed meanwhile.
        """
        rest = memoryview(data)
        if self._grows:
            self.size_bytes = max(self.size_bytes, position + rest.nbytes)
        if position + rest.nbytes > self.size_bytes:
            raise ValueError(
                f"{rest.nbytes} bytes at {position} are more than the {self.size_bytes} that were expected"
            )
        with self._lock:  # a descriptor that is closed while it is written to may be another file's by then
            while rest.nbytes:
                written = os.pwrite(self.descriptor, rest, self.offset + position)
                position, rest = position + written, rest[written:]

    def view(self) -> memoryview:
        """The bytes, mapped and not copied; valid for as long as the view lives, also after `close`."""
        return map_file(self.descriptor, self.offset, self.size_bytes)

    def read_bytes(self) -> bytes:
        """A copy of the bytes."""
        return bytes(self.view())

    def verify(self) -> None:
        """Raises where what was read may be another content than the one that was asked for.

        Raises:
            BadItemError: `changed`.
        """
        if self._verify is not None:
            self._verify()

    def close(self) -> None:
        """Lets go of the file. Safe to call twice."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def __enter__(self) -> "FetchedMedia":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FetchedMedia({self.size_bytes} bytes at {self.offset})"


def map_file(descriptor: int, offset: int, size_bytes: int) -> memoryview:
    """Read-only bytes [offset, offset + size) of a file, mapped; the descriptor may be closed at once."""
    if not size_bytes:
        return memoryview(b"")
    skipped = offset % mmap.ALLOCATIONGRANULARITY
    mapped = mmap.mmap(descriptor, skipped + size_bytes, prot=mmap.PROT_READ, offset=offset - skipped)
    return memoryview(mapped)[skipped:]
