"""The other side of `actors.sandbox`: runs one function on what it is sent, and dies with its parent."""

import ctypes
import errno
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable

from actors.sandbox_wire import receive_message, receive_value, send_value
from records.errors import BadItemError, FailureKind
from storage.fetched import FetchedMedia

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_LINE_CHARACTERS = 300


def main(descriptor: int, parent_pid: int) -> None:
    """Serves calls on the inherited socket until the parent closes it.

    Args:
        descriptor: The socket.
        parent_pid: Who started this process; if it is gone already, so are we.
    """
    _bind_to(parent_pid)
    connection = socket.socket(fileno=descriptor)
    function, memory_limit_bytes = receive_value(connection)
    _limit_memory(memory_limit_bytes)
    send_value(connection, ("ready", None))
    while True:
        try:
            (size_bytes, offset, request), (file,) = receive_message(connection)
        except EOFError:
            return
        with FetchedMedia(file, size_bytes, offset=offset) as media:
            data = media.view()
        answer = run(function, data, request)
        del data, request
        send_value(connection, answer)
        del answer


def run(function: Callable[[memoryview, object], object], data: memoryview, request: object) -> tuple[object, ...]:
    """Calls the function: ("result", value), or ("failure", kind, message) for whatever it raised."""
    try:
        return ("result", function(data, request))
    except BadItemError as error:
        return ("failure", error.kind, one_line(str(error)))
    except Exception as error:  # whatever a codec raises on bad bytes must cost this item alone
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return ("failure", FailureKind.OUT_OF_MEMORY, one_line(f"allocation refused: {error}"))
        logger.warning("the sandboxed function raised", exc_info=True)
        return ("failure", FailureKind.CORRUPT, one_line(f"{type(error).__name__}: {error}"))


def one_line(text: str) -> str:
    """The text on one line, cut where it would not fit a table's column."""
    line = " ".join(text.split())
    return line if len(line) <= _LINE_CHARACTERS else line[: _LINE_CHARACTERS - 1] + "…"


def _bind_to(parent_pid: int) -> None:
    """Has the kernel kill this process when its parent ends, however it ends; leaves Ctrl-C to the parent."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit("the parent is gone")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_memory(limit_bytes: int) -> None:
    """Refuses allocations past twice the limit, for what outruns the parent's watch over resident memory."""
    with open("/proc/self/statm") as statm:
        data_pages = int(statm.read().split()[5])
    hard = data_pages * resource.getpagesize() + 2 * limit_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
