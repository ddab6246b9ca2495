"""A seekable file over ranged reads of an object."""

import io
from collections.abc import Callable


class RangeReader(io.RawIOBase):
    """Reads what is asked for, and further ahead the longer the reading goes on in sequence.

    A reader that jumps (over the bodies of a tar's members) fetches little behind each jump; one that goes through (a
    list's lines) has its window doubled with each fetch.

    Args:
        read: Bytes [start, end) of the object, all of them.
        size_bytes: Length of the object.
        max_ahead_bytes: Most that one fetch reads where it reads ahead.
        ahead_until: No fetch reads ahead beyond this byte; None for the object's end.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        size_bytes: int,
        max_ahead_bytes: int = 0,
        ahead_until: int | None = None,
    ) -> None:
        self._read = read
        self._size = size_bytes
        self._ahead_until = size_bytes if ahead_until is None else ahead_until
        self._max_ahead = max_ahead_bytes
        self._ahead = 0
        self._position = 0
        self._window = b""
        self._window_start = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        if not self._window_start <= self._position < self._window_start + len(self._window):
            self._fetch(end - self._position)
        start = self._position - self._window_start
        data = memoryview(self._window)[start : start + end - self._position]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _fetch(self, wanted: int) -> None:
        gap = self._position - (self._window_start + len(self._window))
        in_sequence = 0 <= gap <= max(wanted, self._ahead)
        self._ahead = min(max(2 * self._ahead, wanted), self._max_ahead) if in_sequence else 0
        end = self._position + wanted
        end = min(max(end, min(self._position + self._ahead, self._ahead_until)), self._size)
        self._window = self._read(self._position, end)
        self._window_start = self._position
