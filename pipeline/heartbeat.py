"""What a worker says of itself while it lives: whether its model loads, how much it has done, where it hangs.

A thread of its own tells the gate every few seconds. While native code holds the interpreter no thread of Python runs;
then faulthandler writes the stacks into the worker's own log.
"""

import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
"""How often a worker says that it lives."""

SILENT_SECONDS = 60.0
"""A worker that could not speak for so long writes its stacks into its log; one that loaded is taken for dead."""

_STDERR = 2
"""Ray sends it to the worker's log."""

ORPHAN_SECONDS = 10.0
"""A worker that still works or loads when its phase has been over for so long ends itself."""

ORPHAN_EXIT = 71
"""Its exit code."""

WorkerPhase = Literal["queues", "loads", "ready"]
"""`queues`: waits for its turn on a GPU that it shares."""

Answer = Literal["go on", "stacks", "over"]
"""What a worker is told: its stacks are wanted, or its phase is over and nobody listens any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker at one moment."""

    phase: WorkerPhase
    phase_seconds: float
    """How long it has been in it."""
    calls: int
    """Calls that have ended."""
    busy_seconds: float
    """How long the oldest call that runs has run; 0 where none does."""
    node: str
    """Ray's id of its node."""
    pid: int

    @property
    def is_idle(self) -> bool:
        """Whether it neither loads nor works."""
        return self.phase == "ready" and self.busy_seconds == 0


class Listener(Protocol):
    """Where workers say how they are."""

    def beat(self, stage: str, worker: str, state: WorkerState) -> Answer:
        """A worker, named by what no other has, lives and holds its GPUs."""
        ...

    def stacks(self, stage: str, worker: str, text: str) -> None:
        """What each thread of a worker was doing."""
        ...

    def cannot_start(self, stage: str, worker: str, reason: str) -> None:
        """A worker could not build its stage: it will not be ready, and its process ends."""
        ...


class Heartbeat:
    """Tells for as long as the process lives, loading of the model included: a GPU is held from the start.

    A worker whose call hangs would outlive its phase and hold its CPUs and GPUs, since Ray waits for the call to end
    (2.60): so it ends itself. One that is idle is left to Ray, and closes its engine in order.
    """

    def __init__(self, listener: Listener, stage: str, node: str) -> None:
        self._listener = listener
        self._stage = stage
        self._node = node
        self._worker = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._phase: WorkerPhase = "queues"
        self._since = time.monotonic()
        self._running: dict[int, float] = {}
        self._started_calls = self._ended_calls = 0
        self._over_since: float | None = None
        self._beat()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def enter(self, phase: WorkerPhase) -> None:
        """Goes on to the next phase, and says so at once."""
        with self._lock:
            self._phase, self._since = phase, time.monotonic()
        self._beat()

    def fails(self, reason: str) -> None:
        """Says that its stage could not be built."""
        self._listener.cannot_start(self._stage, self._worker, reason)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Counts a call and its time."""
        with self._lock:
            self._started_calls += 1
            number = self._started_calls
            self._running[number] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._running[number]
                self._ended_calls += 1

    def state(self) -> WorkerState:
        """How it is now."""
        now = time.monotonic()
        with self._lock:
            return WorkerState(
                phase=self._phase,
                phase_seconds=now - self._since,
                calls=self._ended_calls,
                busy_seconds=now - min(self._running.values(), default=now),
                node=self._node,
                pid=os.getpid(),
            )

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(BEAT_SECONDS):
            faulthandler.dump_traceback_later(SILENT_SECONDS, file=_STDERR)
            self._beat()
            if self._is_orphan():
                logger.error("stage=%s the phase is over and this worker still works, leaving", self._stage)
                logging.shutdown()
                os._exit(ORPHAN_EXIT)

    def _beat(self) -> None:
        answer = self._listener.beat(self._stage, self._worker, self.state())
        if answer == "stacks":
            self._listener.stacks(self._stage, self._worker, thread_stacks())
        elif answer == "over" and self._over_since is None:
            self._over_since = time.monotonic()

    def _is_orphan(self) -> bool:
        if self._over_since is None or time.monotonic() - self._over_since < ORPHAN_SECONDS:
            return False
        return not self.state().is_idle


def thread_stacks() -> str:
    """Every thread of this process but the one that asks, with its stack, innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = [
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    ]
    return "\n".join(parts)
