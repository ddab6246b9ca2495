"""Ends the processes of an engine whose worker died without closing it, and removes the files they leave.

vLLM's engine process does not notice that whoever started it is gone: it would keep its memory, the GPU's included, and
the worker that takes over would find none. So a small process of its own waits on a pipe that closes with the worker,
and then kills whatever carries the engine's mark in its environment, also what is still loading. vLLM's sockets and its
rendezvous file lie in a folder of the engine's own, since nobody removes them, not even where the engine ends in order;
and semaphores in shared memory go too, whose own keeper Ray may have killed.

This file is both sides: imported by the worker, and run as the guard, which needs nothing but the standard library.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

MARK = "REELSCRIBE_ENGINE"
"""The variable by which an engine's processes are known; set for them alone."""

_CLOSED = "closed"
_LOOK_AGAIN_SECONDS = 0.5


class EngineGuard:
    """Watches over the processes started inside `marked` until it is closed."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._folder = tempfile.mkdtemp(prefix="reelscribe-engine-")
        self._semaphores: list[str] = []
        # A session of its own: Ctrl-C reaches the worker's group, and the guard must outlive it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self._mark, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._process.wait()  # what stays is its child, see `main`

    @contextlib.contextmanager
    def marked(self) -> Iterator[None]:
        """Marks the processes that are started while the context is open, as long as each starts a new program."""
        ours = {MARK: self._mark, "TMPDIR": self._folder, "VLLM_RPC_BASE_PATH": self._folder}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        self._semaphores = semaphores(self._mark)
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # somebody has killed it
                stdin.write("".join(f"{path}\n" for path in self._semaphores).encode())
                stdin.flush()

    def close(self) -> None:
        """Lets the guard go: the engine was closed in order. Safe to call twice."""
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # somebody has killed it
                stdin.write(_CLOSED.encode())
                stdin.close()
        remove(self._folder, self._semaphores)


def marked_processes(mark: str) -> list[int]:
    """Processes that carry the mark, as far as this user may look."""
    wanted = f"{MARK}={mark}".encode()
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def semaphores(mark: str) -> list[str]:
    """Files in shared memory that the marked processes have mapped as named semaphores.

    The C library links them to their names after it has mapped them, so that they are known by their inodes alone.
    """
    mapped: set[int] = set()
    for pid in marked_processes(mark):
        with contextlib.suppress(OSError):  # another user's, or gone
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                if "/dev/shm/sem." in line:
                    mapped.add(int(line.split()[4]))
    return [entry.path for entry in os.scandir("/dev/shm") if entry.name.startswith("sem.") and entry.inode() in mapped]


def remove(folder: str, files: Iterable[str]) -> None:
    """Removes what ended processes have left, as far as it is still there."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        Path(file).unlink(missing_ok=True)


def main(mark: str, folder: str) -> None:
    """Waits for the worker's word or its end, as nobody's child: a worker that ends takes its children along."""
    if os.fork():
        return
    files = sys.stdin.read().splitlines()
    if files[-1:] == [_CLOSED]:
        return
    quiet_looks = 0
    while quiet_looks < 2:  # one more: a process may just have been on its way into being
        found = marked_processes(mark)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        quiet_looks = 0 if found else quiet_looks + 1
        time.sleep(_LOOK_AGAIN_SECONDS)
    remove(folder, files)


if __name__ == "__main__":
    main(*sys.argv[1:])
