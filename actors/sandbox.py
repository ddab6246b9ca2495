"""Runs a function on untrusted bytes in a supervised child process: what it does there costs that one call.

The child is a fresh interpreter (no fork of a process that holds threads, Ray or CUDA), kept between calls and replaced
after it was killed or died. pebble was read and left: it pickles arguments and results through a pipe and notices
a dead child by polling each 0.1 s.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from actors.sandbox_wire import receive_value, send_value
from records.errors import BadItemError, FailureKind, FatalError
from storage.fetched import FetchedMedia

logger = logging.getLogger(__name__)

Q = TypeVar("Q")
R = TypeVar("R")

_POLL_SECONDS = 0.02
_START_SECONDS = 120.0
_PROGRAM = "import sys; from actors.sandbox_child import main; main(int(sys.argv[1]), int(sys.argv[2]))"


class Sandbox(Generic[Q, R]):
    """One child process and its supervisor; calls from several threads take turns.

    Args:
        function: Takes the bytes and a request; named at the top of an importable module, since the child imports it.
        timeout_seconds: Limit of one call.
        memory_limit_bytes: Memory that one call may take above an idle child, the mapped input not counted.

    Raises:
        FatalError: The child does not start.
    """

    def __init__(
        self, function: Callable[[memoryview, Q], R], *, timeout_seconds: float, memory_limit_bytes: int
    ) -> None:
        if function.__module__ == "__main__":
            raise ValueError("the sandboxed function must be in an importable module, not in __main__")
        self._function = function
        self._timeout_seconds = timeout_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self._lock = threading.Lock()
        # The kernel kills the child when the thread that started it ends: so one thread starts all, and lives as long.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="sandbox-starter")
        self._child: _Child | None = None
        self._closed = False
        self._ready_child()

    @property
    def child_pid(self) -> int | None:
        """The child's process id, or None where a dead one waits to be replaced by the next call."""
        child = self._child
        return child.process.pid if child is not None else None

    def run(self, data: FetchedMedia | bytes, request: Q) -> R:
        """Calls the function in the child; arrays of the result lie in memory shared with nobody.

        A call whose child was killed from outside runs once more: the kernel's memory killer, or a person, may have
        meant another process.

        Args:
            data: What the function gets as a memoryview. A file is mapped by the child and never copied; bytes are
                copied into one.
            request: Anything picklable.

        Raises:
            BadItemError: `timeout`, `out_of_memory`, `crashed`, or what the function raised: its own kind if that
                was a BadItemError, `corrupt` otherwise.
            FatalError: A dead child could not be replaced, or the sandbox is closed.
        """
        if isinstance(data, bytes):
            with FetchedMedia.of_bytes(data) as media:
                return self.run(media, request)
        with self._lock:
            try:
                answer = self._call(data, request)
            except _KilledError:
                logger.warning("the process that decodes was killed, decoding once more")
                answer = self._call(data, request)
        if answer[0] == "failure":
            raise BadItemError(FailureKind(answer[1]), answer[2])
        result: R = answer[1]
        return result

    def _call(self, data: FetchedMedia, request: Q) -> Any:  # noqa: ANN401 - what the child pickled
        child = self._ready_child()
        try:
            send_value(child.connection, (data.size_bytes, data.offset, request), [data.descriptor])
            answer = self._await_answer(child, time.monotonic() + self._timeout_seconds)
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise self._post_mortem(child) from error
        except BaseException:
            # The child may be busy for ever with a call that nobody waits for any more.
            self._drop(child)
            raise
        # A library that leaks would otherwise make a later clip pay for the earlier ones.
        if child.grown_bytes() > self._memory_limit_bytes // 2:
            self._drop(child)
        return answer

    def close(self) -> None:
        """Ends the child. Safe to call twice, and while another thread's call runs: that call then fails."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()
        with self._lock:
            if self._child is not None:
                self._drop(self._child)
        self._starter.shutdown()

    def _await_answer(self, child: "_Child", deadline: float) -> Any:  # noqa: ANN401 - what the child pickled
        poll = select.poll()
        poll.register(child.connection, select.POLLIN)
        while not poll.poll(_POLL_SECONDS * 1000):
            child.peak_bytes = max(child.peak_bytes, child.grown_bytes())
            if child.peak_bytes > self._memory_limit_bytes:
                raise BadItemError(
                    FailureKind.OUT_OF_MEMORY, f"took more than {self._memory_limit_bytes / 2**20:.0f} MiB"
                )
            if time.monotonic() > deadline:
                raise BadItemError(FailureKind.TIMEOUT, f"took more than {self._timeout_seconds:g} s")
        return receive_value(child.connection)

    def _post_mortem(self, child: "_Child") -> Exception:
        """Says what the child died of, and forgets it."""
        self._drop(child)
        if self._closed:
            return FatalError("the sandbox was closed during the call")
        code = child.process.returncode
        how = f"the process that decoded it died: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}"
        if code == -signal.SIGKILL:  # from outside: likeliest by the kernel's memory killer
            return _KilledError(FailureKind.OUT_OF_MEMORY, how)
        refused = child.peak_bytes > 0.8 * self._memory_limit_bytes
        return BadItemError(FailureKind.OUT_OF_MEMORY if refused else FailureKind.CRASHED, how)

    def _ready_child(self) -> "_Child":
        if self._closed:
            raise FatalError("the sandbox is closed")
        if self._child is not None and self._child.process.poll() is not None:
            self._drop(self._child)  # killed while it was idle
        if self._child is None:
            child = self._starter.submit(_Child).result()
            try:
                send_value(child.connection, (self._function, self._memory_limit_bytes))
                child.connection.settimeout(_START_SECONDS)
                receive_value(child.connection)
                child.connection.settimeout(None)
            except (EOFError, OSError) as error:
                self._drop(child)
                raise FatalError(f"the sandbox's child does not start (exit {child.process.returncode})") from error
            except BaseException:
                self._drop(child)
                raise
            child.idle_bytes = child.own_bytes()
            self._child = child
        self._child.peak_bytes = 0
        return self._child

    def _drop(self, child: "_Child") -> None:
        child.kill()
        child.connection.close()
        self._child = None


class _KilledError(BadItemError):
    """Somebody else has killed the child during the call."""


class _Child:
    """A started interpreter and the socket to it."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            )
        self.idle_bytes = 0
        self.peak_bytes = 0

    def own_bytes(self) -> int:
        """Resident memory now, without what it shares (its input, code); 0 once it is dead."""
        try:
            with open(f"/proc/{self.process.pid}/statm") as statm:
                _, resident, shared, *_ = statm.read().split()
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")

    def grown_bytes(self) -> int:
        """Its own memory above what it had when it was idle and new."""
        return max(self.own_bytes() - self.idle_bytes, 0)

    def kill(self) -> None:
        """Ends it now, and reaps it."""
        self.process.kill()
        self.process.wait()
