"""Several sandboxes behind one door: whoever came into the stage first is served first."""

import heapq
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from actors.sandbox import Sandbox
from storage.fetched import FetchedMedia

Q = TypeVar("Q")
R = TypeVar("R")


class SandboxPool(Generic[Q, R]):
    """Child processes shared by threads.

    Args:
        make: Starts one.
        processes: How many.

    Raises:
        FatalError: One does not start.
    """

    def __init__(self, make: Callable[[], Sandbox[Q, R]], processes: int) -> None:
        self._changed = threading.Condition()
        self._waiting: list[int] = []
        self._all: list[Sandbox[Q, R]] = []
        try:
            for _ in range(processes):
                self._all.append(make())
        except BaseException:
            self.close()
            raise
        self._idle = list(self._all)

    def run(self, place: int, data: FetchedMedia, request: Q) -> R:
        """`Sandbox.run` on the next free child.

        Args:
            place: Of all that wait the lowest goes first: what an old call has decoded lies in memory until its last
                item is. No two threads may wait with the same.
            data: See `Sandbox.run`, which also says what is raised.
            request: Likewise.
        """
        with self._changed:
            heapq.heappush(self._waiting, place)
            self._changed.wait_for(lambda: self._idle and self._waiting[0] == place)
            heapq.heappop(self._waiting)
            sandbox = self._idle.pop()
            self._changed.notify_all()
        try:
            return sandbox.run(data, request)
        finally:
            with self._changed:
                self._idle.append(sandbox)
                self._changed.notify_all()

    def close(self) -> None:
        """Ends the children; calls that run or wait then fail. Safe to call twice."""
        for sandbox in self._all:
            sandbox.close()
