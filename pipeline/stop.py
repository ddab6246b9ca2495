"""How a run is told to stop: signals, a lost lease, a tripped breaker, a failed journal.

A signal is seen by a thread of its own, through the wake-up file descriptor, since the main thread may sit inside Ray
for seconds.
"""

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)

SAME_SIGNAL_SECONDS = 0.5
"""Who signals a process and then its group, as GNU timeout does, means it once."""


class DrainOver(BaseException):
    """Raised in the main thread when a stopping run has drained for long enough.

    Like KeyboardInterrupt it is no Exception: nothing between the handler and the phase may catch it.
    """


class PassOver(BaseException):
    """Raised in the main thread when a pass is given up, for another one to go on with its rows."""


class StopFlag:
    """Why the run is to stop, set once; the first reason stays, but a signal is more urgent than a plan."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reason: str | None = None
        self.signal_number: int | None = None
        self.error: BaseException | None = None
        self.planned = False
        """Whether the run stops as it was told to from the start: at a deadline, or with its GPU-hours."""
        self._drain_over = False
        self._pass_over = self._waits = self._left = self._watched = False
        self._own_signals = 0

    def set(
        self,
        reason: str,
        *,
        signal_number: int | None = None,
        error: BaseException | None = None,
        planned: bool = False,
    ) -> bool:
        """Asks the run to stop; says whether nobody had before. The first signal always counts, and ends a plan."""
        with self._lock:
            if signal_number is not None:
                if self.signal_number is not None:
                    return False
                self.signal_number = signal_number
                if self.reason is None or self.planned:
                    self.reason, self.planned = reason, False
                return True
            if self.reason is not None:
                return False
            self.reason, self.error, self.planned = reason, error, planned
            return True

    def fail(self, error: BaseException) -> bool:
        """Asks the run to stop with an error, also where it was to stop already; says whether it is the first."""
        with self._lock:
            if self.error is not None:
                return False
            self.error, self.planned = error, False
            self.reason = self.reason or f"{type(error).__name__}: {error}"
            return True

    @property
    def is_leaving(self) -> bool:
        """Whether the main thread waits for rows, or was made to leave that wait and has not come back."""
        return self._waits or self._left

    @property
    def is_set(self) -> bool:
        """Whether the run is to stop."""
        return self.reason is not None

    def end_drain(self) -> None:
        """Makes the main thread leave its wait for further rows, or not begin the next, with `DrainOver`."""
        self._drain_over = True
        self._wake_main_thread()

    def begin_pass(self) -> None:
        """Forgets an `end_pass` that came too late for the last pass."""
        self._pass_over = False

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the main thread's wait for rows: nowhere else may it be made to leave, least of all as it commits.

        Raises:
            DrainOver: Nothing further is waited for, since before or in the wait.
            PassOver: The same of a pass that was given up.
        """
        self._waits = True
        try:
            self._leave()
            yield
        finally:
            self._waits = False

    def end_pass(self) -> None:
        """Makes the main thread leave its wait for further rows, or not begin the next, with `PassOver`."""
        self._pass_over = True
        self._wake_main_thread()

    def _wake_main_thread(self) -> None:
        """A real signal: it ends the wait for a lock, which `_thread.interrupt_main` does not."""
        ident = threading.main_thread().ident
        with self._lock:
            if self._watched and ident is not None:
                self._own_signals += 1
                signal.pthread_kill(ident, signal.SIGTERM)

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """While the context is open, SIGTERM and SIGINT are this flag's."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        self._watched = True
        try:
            yield
        finally:
            with self._lock:
                self._watched = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def is_own(self, number: int) -> bool:
        """Whether a signal that arrived was sent to wake the main thread; asked once for each."""
        with self._lock:
            if number != signal.SIGTERM or not self._own_signals:
                return False
            self._own_signals -= 1
            return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._waits and (self._drain_over or self._pass_over):
            self._waits = False  # once: what the exception passes on its way out must come to its own end
            self._leave()

    def _leave(self) -> None:
        if self._drain_over:
            self._left = True
            raise DrainOver
        if self._pass_over:
            self._pass_over = False
            raise PassOver


@contextlib.contextmanager
def watch_signals(flag: StopFlag, on_signal: Callable[[int], None]) -> Iterator[None]:
    """Calls `on_signal` from a thread of its own for each SIGTERM or SIGINT while the context is open.

    Must be entered from the main thread, after `ray.init`, which sets handlers of its own.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        last = -math.inf
        while received := reader.recv(64):
            for number in received:
                if number in SIGNALS and not flag.is_own(number) and time.monotonic() - last > SAME_SIGNAL_SECONDS:
                    last = time.monotonic()
                    on_signal(number)

    thread = threading.Thread(target=watch, name="signals", daemon=True)
    thread.start()
    try:
        with flag.handled():
            yield
    finally:
        signal.set_wakeup_fd(wakeup)
        with contextlib.suppress(OSError):
            reader.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)
        writer.close()
        reader.close()


def leave_now(flag: StopFlag) -> None:
    """Ends the process at once, with the exit code of its signal or with 1: what counts is in the journal."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")  # the live display hid the cursor
        sys.stderr.flush()
    if flag.signal_number is not None:
        os._exit(128 + flag.signal_number)
    why = flag.error or f"the run was to stop ({flag.reason}), and something of it did not end"
    sys.stderr.write(f"error: {why}\n")
    sys.stderr.flush()
    os._exit(1)
