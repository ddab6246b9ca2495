"""Ends the processes of an engine whose worker died without closing it.

vLLM's engine process does not notice that whoever started it is gone: it would keep its memory, the GPU's included, and
the worker that takes over would find none. So a small process of its own waits on a pipe that closes with the worker,
and then kills whatever carries the engine's mark in its environment, also what is still loading.

This file is both sides: imported by the worker, and run as the guard, which needs nothing but the standard library.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

MARK = "REELSCRIBE_ENGINE"
"""The variable by which an engine's processes are known; set for them alone."""

_LOOK_AGAIN_SECONDS = 0.5


class EngineGuard:
    """Watches over the processes started inside `marked` until it is closed."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        # A session of its own: Ctrl-C reaches the worker's group, and the guard must outlive it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self._mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @contextlib.contextmanager
    def marked(self) -> Iterator[None]:
        """Marks the processes that are started while the context is open, as long as each starts a new program."""
        before = os.environ.get(MARK)
        os.environ[MARK] = self._mark
        try:
            yield
        finally:
            if before is None:
                del os.environ[MARK]
            else:
                os.environ[MARK] = before

    def close(self) -> None:
        """Lets the guard go: the engine was closed in order. Safe to call twice."""
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # somebody has killed it
                stdin.write(b"closed")
                stdin.close()
        self._process.wait()


def marked_processes(mark: str) -> list[int]:
    """Processes that carry the mark, as far as this user may look."""
    wanted = f"{MARK}={mark}".encode()
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def main(mark: str) -> None:
    """Waits for the worker's word or its end."""
    if sys.stdin.buffer.read():
        return
    quiet_looks = 0
    while quiet_looks < 2:  # one more: a process may just have been on its way into being
        found = marked_processes(mark)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        quiet_looks = 0 if found else quiet_looks + 1
        time.sleep(_LOOK_AGAIN_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
