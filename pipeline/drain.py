"""How a run ends that is to stop: what is on its way may still come back, for as long as something can."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.limits import Limits
from pipeline.stop import StopFlag, leave_now

LEAVE_SECONDS = 10.0
"""How long the main thread may take to end after a signal before the process ends without it: a node that is taken
away has 30 s."""

UNHURRIED_LEAVE_SECONDS = 120.0
"""The same without a signal, from where it waits: to hand tasks to Ray, to commit and to shut down may take long."""

SILENT_SECONDS = 8.0
"""How long Ray may take for an answer after a signal. Whoever signals a whole group, or a machine's every process, ends
Ray's own as well; what asks them then waits for a minute, at the end of which Ray ends this process without a word."""


@dataclass(slots=True, kw_only=True)
class Drain:
    """Ends the wait for rows of a stopping run; watched about every second."""

    flag: StopFlag
    limits: Limits
    seconds: float
    """How long rows may still come back; after a planned stop it is the limit itself that ends that."""
    clock: Callable[[], float] = time.monotonic
    leave: Callable[[StopFlag], None] = leave_now
    _since: float | None = None
    _over_since: float | None = None

    def begin(self) -> None:
        """From now on, unless it has begun."""
        if self._since is None:
            self._since = self.clock()

    def begin_anew(self) -> None:
        """From now on: a signal allows less than the planned stop that drains already."""
        self._since, self._over_since = self.clock(), None

    def watch(self, *, expects_rows: bool) -> None:
        """Ends the drain once its time is over or nothing can come back, and the process where that does not help."""
        if self._since is None:
            return
        now = self.clock()
        time_is_over = self.limits.is_over() if self.flag.planned else now - self._since >= self.seconds
        if expects_rows and not time_is_over:
            return
        hurried = self.flag.signal_number is not None
        if self._over_since is None or not (hurried or self.flag.is_leaving):
            self._over_since = now
        if now - self._over_since > (LEAVE_SECONDS if hurried else UNHURRIED_LEAVE_SECONDS):
            self.leave(self.flag)
        self.flag.end_drain()

    def leave_without_ray(self, asking_since: float | None, save: Callable[[], None]) -> None:
        """After a signal: saves, at most for `LEAVE_SECONDS`, and ends the process where Ray does not answer.

        Args:
            asking_since: Since when an answer is waited for, by the clock; None while none is.
            save: Journals what came back.
        """
        if self.flag.signal_number is None or asking_since is None or self.clock() - asking_since < SILENT_SECONDS:
            return
        last = threading.Timer(LEAVE_SECONDS, self.leave, [self.flag])
        last.daemon = True
        last.start()
        save()
        self.leave(self.flag)
