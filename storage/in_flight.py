"""How many bytes may be on their way at once: a budget that many small items share and that a large one has alone.

Whoever holds a part of it never waits for more, so that it cannot deadlock: what is ahead of need only tries, and
what is needed next waits holding nothing.
"""

import os
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil

_SHARE_OF_MEMORY = 8
_LEAST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlightConfig:
    """How much one worker fetches ahead of decoding. Never part of a fingerprint.

    Raises:
        ValueError: A limit is not positive.
    """

    max_bytes: int | None = None
    """Bytes of items being fetched, or fetched and not yet decoded, in one worker; a larger item goes alone. None for
    an eighth of the machine's memory by its cores, what a worker a core would share, and 64 MiB at least."""
    max_objects: int = 64
    """Items being fetched at once in one worker: its threads and its connections."""
    unknown_bytes: int = 16 * 2**20
    """What an item counts whose size the catalog does not know, until it is there."""

    def __post_init__(self) -> None:
        if (self.max_bytes is not None and self.max_bytes < 1) or self.max_objects < 1 or self.unknown_bytes < 1:
            raise ValueError("in_flight: max_bytes, max_objects and unknown_bytes must be positive")

    def budget(self) -> "ByteBudget":
        """A new budget of that size."""
        share = memory_bytes() // (_SHARE_OF_MEMORY * (os.cpu_count() or 1))
        return ByteBudget(self.max_bytes or max(share, _LEAST_BYTES))


class Reservation:
    """A part of a budget, until released; a context manager."""

    def __init__(self, budget: "ByteBudget", size_bytes: int) -> None:
        self._budget = budget
        self._size_bytes = size_bytes

    def resize(self, size_bytes: int) -> None:
        """Says how large the item really is. Never waits: the budget may be overdrawn until something is released."""
        self._budget._give_back(self._size_bytes - size_bytes)
        self._size_bytes = size_bytes

    def release(self) -> None:
        """Gives it back. Safe to call twice."""
        self.resize(0)

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self.release()
        return False


class ByteBudget:
    """Bytes that may be reserved at once, first come first served. Safe between threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._reserved_bytes = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def reserved_bytes(self) -> int:
        """Bytes reserved now."""
        return self._reserved_bytes

    def reserve(self, size_bytes: int) -> Reservation:
        """Waits for its turn and for room. Call it only while holding no reservation."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._has_room(size_bytes))
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
            self._reserved_bytes += size_bytes
        return Reservation(self, size_bytes)

    def try_reserve(self, size_bytes: int) -> Reservation | None:
        """A reservation where there is room and nobody waits for it; never waits."""
        with self._changed:
            if self._queue or not self._has_room(size_bytes):
                return None
            self._reserved_bytes += size_bytes
        return Reservation(self, size_bytes)

    def _has_room(self, size_bytes: int) -> bool:
        return self._reserved_bytes <= 0 or self._reserved_bytes + size_bytes <= self.max_bytes

    def _give_back(self, size_bytes: int) -> None:
        with self._changed:
            self._reserved_bytes -= size_bytes
            self._changed.notify_all()


def memory_bytes() -> int:
    """The memory that this process may use: the machine's, or its container's limit where that is less."""
    total = int(psutil.virtual_memory().total)
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such version of cgroups, or "max"
            continue
    return total
