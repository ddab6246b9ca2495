"""One large object as a file to write to: streamed in pieces, named at the end, bounded in memory.

For Parquet files of hundreds of megabytes that no task should hold whole. A small one goes in a single request.
"""

import hashlib
import io
import math
from types import TracebackType
from typing import Final

from storage.backends import Piece
from storage.stores import Store

MAX_PIECES: Final = 9_000
"""S3 takes 10,000; the rest is slack."""
PIECE_BYTES: Final = 32 * 2**20


def piece_bytes_for(size_bytes: int, at_least: int = PIECE_BYTES) -> int:
    """The size of all pieces but the last, for an object of a known size."""
    return max(at_least, math.ceil(size_bytes / MAX_PIECES))


class ObjectWriter(io.RawIOBase):
    """A file open for writing whose object appears whole when the `with` block ends, and not at all if it raises.

    Args:
        store: Where it is written.
        path: Its name. What is there already stays: see `created`.
        piece_bytes: How much is kept in memory; at least 5 MiB on S3.
    """

    def __init__(self, store: Store, path: str, piece_bytes: int = PIECE_BYTES) -> None:
        super().__init__()
        self._store = store
        self._path = path
        self._piece_bytes = piece_bytes
        self._buffer = bytearray()
        self._token: str | None = None
        self._receipts: list[str] = []
        self._digest = hashlib.sha256()
        self._sent_bytes = 0
        self.created = False
        """Whether the object is this one; False until the block ended, and where another had its name."""

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return self._sent_bytes + len(self._buffer)

    @property
    def sha256(self) -> str:
        """Digest of what was written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size_bytes

    def write(self, data: "memoryview | bytes") -> int:  # type: ignore[override]
        """Takes all of it; sends what fills pieces."""
        self._digest.update(data)
        self._buffer += data
        while len(self._buffer) >= 2 * self._piece_bytes:  # the last piece is never empty
            self._send(self._piece_bytes)
        return len(data)

    def _send(self, length: int) -> None:
        if self._token is None:
            self._token = self._store.start_upload(self._path)
        piece = Piece(number=len(self._receipts), offset=self._sent_bytes)
        self._receipts.append(self._store.put_piece(self._path, self._token, piece, bytes(self._buffer[:length])))
        del self._buffer[:length]
        self._sent_bytes += length

    def __enter__(self) -> "ObjectWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            if self._token is not None:
                self._store.abort_upload(self._path, self._token)
        elif self._token is None:
            self.created = self._store.create(self._path, bytes(self._buffer))
        else:
            while self._buffer:
                self._send(min(self._piece_bytes, len(self._buffer)))
            self.created = self._store.finish_upload(self._path, self._token, self._receipts, self._sent_bytes)
