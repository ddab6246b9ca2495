"""Runs a function in a process of its own under a limit of memory, and says what that process and all below it took.

Memory is what a machine must have for them: each process's share of private and file pages (PSS), and the shared memory
that they hold open, once. Whoever passes the limit is ended with all below it, so that a size that does not fit takes
nothing else down.
"""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

POLL_SECONDS = 0.1
RESERVE_BYTES = 3 * 2**29
"""Where the machine itself has less left, the run ends too: others may have taken what there was."""

_COUNTED = ("Pss_Anon:", "Pss_File:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a run took."""

    why_ended: str | None
    """None where it came to its end."""
    began: bool
    """Whether it came to what was to be measured."""
    found: dict[str, float]
    """What the function said; empty where it was ended."""
    wall_seconds: float
    cpu_seconds: float
    """Of all processes, those that ended meanwhile included as far as they were seen."""
    peak_bytes: int


class Tree:
    """A process and all below it, seen from outside."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self._shared: set[str] = set()

    @property
    def cpu_seconds(self) -> float:
        """Of every process that was ever seen."""
        return sum(self._cpu.values())

    def memory_bytes(self) -> int:
        """What they hold now; looks at their CPU seconds as well."""
        total, shared = 0, dict[int, int]()
        for process in self._all():
            with contextlib.suppress(psutil.Error, OSError):
                times = process.cpu_times()
                self._cpu[process.pid] = times.user + times.system
                total += _own_bytes(process.pid)
                shared |= _shared_bytes(process.pid)
        return total + sum(shared.values())

    def end(self) -> None:
        """Ends all of them."""
        for process in self._all():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _all(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [self._root, *self._root.children(recursive=True)]
        return []


def _own_bytes(pid: int) -> int:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(line[1]) * 1024 for line in lines if line[0] in _COUNTED)


def _shared_bytes(pid: int) -> dict[int, int]:
    """Inode to bytes of the shared memory that a process holds open: of Ray the object store, in the raylet."""
    found: dict[int, int] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith("/dev/shm/"):
                status = os.stat(path)
                found[status.st_ino] = status.st_blocks * 512
    return found


def run_watched(
    function: Callable[..., dict[str, float]], *arguments: object, limit_bytes: int, limit_seconds: float
) -> Watched:
    """Calls the function in a process of its own.

    Args:
        function: At the top of a module. Its first argument is a function to call once what is to be measured begins.
        arguments: Further ones.
        limit_bytes: Of memory, for the process and all below it.
        limit_seconds: Of time.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    assert process.pid is not None
    tree, cpu_before, peak = Tree(process.pid), 0.0, 0
    found: dict[str, float] | None = None
    why: str | None = None
    started = began = time.perf_counter()
    while found is None and why is None:
        held = tree.memory_bytes()
        peak = max(peak, held)
        if held > limit_bytes:
            why = f"more than {limit_bytes / 2**30:.1f} GiB"
        elif psutil.virtual_memory().available < RESERVE_BYTES:
            why = f"the machine was full, with {held / 2**30:.1f} GiB held here"
        elif time.perf_counter() - started > limit_seconds:
            why = f"more than {limit_seconds:.0f} s"
        elif not ours.poll(POLL_SECONDS):
            continue
        else:
            said = _received(ours)
            if said == "begins":
                began, cpu_before, peak = time.perf_counter(), tree.cpu_seconds, 0
            else:
                found, why = (said, None) if isinstance(said, dict) else (None, str(said))
    wall, cpu = time.perf_counter() - began, tree.cpu_seconds - cpu_before
    if why is not None:
        tree.end()
    process.join()
    return Watched(
        why_ended=why,
        began=began > started,
        found=found or {},
        wall_seconds=wall,
        cpu_seconds=cpu,
        peak_bytes=peak,
    )


def _received(connection: Connection) -> Any:  # noqa: ANN401 - what the child sent
    try:
        return connection.recv()
    except EOFError:
        return "it died"


def _child(connection: Connection, function: Callable[..., dict[str, float]], arguments: tuple[Any, ...]) -> None:
    try:
        found: object = function(lambda: connection.send("begins"), *arguments)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {str(error).strip().splitlines()[-1:]}")
        raise
    connection.send(found)
