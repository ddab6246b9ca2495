"""Where the bytes of an item go, and how a large one is read: in parts, several at once, each with its own retries."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from storage.faults import SpillError
from storage.fetched import FetchedMedia


@dataclass(frozen=True, slots=True, kw_only=True)
class SpillConfig:
    """Where large items lie until they are decoded. None of it changes an output.

    Raises:
        ValueError: A limit is negative.
    """

    above_bytes: int = 64 * 2**20
    """Larger items lie on disk, not in memory."""
    folder: str | None = None
    """On a disk with room for the items in flight; None for the system's folder for temporary files."""

    def __post_init__(self) -> None:
        if self.above_bytes < 0:
            raise ValueError("spill: above_bytes must not be negative")

    def on_disk(self, size_bytes: int | None) -> bool:
        """Whether an item of this size lies on disk; one of unknown size does."""
        return size_bytes is None or size_bytes > self.above_bytes

    def room(self, size_bytes: int | None) -> FetchedMedia:
        """Room for an item; for one of unknown size a file that grows.

        Raises:
            SpillError: The disk is full or cannot be written.
        """
        if size_bytes is not None and not self.on_disk(size_bytes):
            return FetchedMedia.empty(size_bytes)
        folder = self.folder if self.folder is not None else tempfile.gettempdir()
        try:
            return FetchedMedia.empty(size_bytes, folder)
        except OSError as error:
            size = f"{size_bytes} bytes" if size_bytes is not None else "a video of unknown size"
            raise SpillError(
                f"no room for {size} in {folder}, where large videos are set aside: {os.strerror(error.errno or 0)}"
            ) from None


@contextlib.contextmanager
def kept(media: FetchedMedia) -> Iterator[FetchedMedia]:
    """Lets go of the room where filling it fails."""
    try:
        yield media
    except BaseException:
        media.close()
        raise


def read_in_parts(size_bytes: int, part_bytes: int, at_once: int, read: Callable[[int, int], None]) -> None:
    """Reads [start, end) ranges that make up an item: the first alone, the others several at once.

    Args:
        read: Reads one range, with retries of its own. What the first range tells it holds for the others.

    Raises:
        Exception: What the first failing range raised, once no other is being read any more.
    """
    read(0, min(part_bytes, size_bytes))
    starts = range(part_bytes, size_bytes, part_bytes)
    with ThreadPoolExecutor(at_once, thread_name_prefix="fetch-part") as pool:
        parts = [pool.submit(read, start, min(start + part_bytes, size_bytes)) for start in starts]
        try:
            for part in parts:
                part.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
