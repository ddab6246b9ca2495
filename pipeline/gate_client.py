"""The driver's side of the gate: tells it what it must know, also where Ray had to start it anew."""

import logging
import threading
from collections.abc import Mapping, Sequence

import ray

from pipeline.gate import DriverState, GateHandle, GateState

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 60.0
"""How long the gate may take to answer the driver's regular question, a new start included."""


class GateClient:
    """Remembers which pass is under way and which shards the gate said that it had let in. Safe between threads."""

    def __init__(self, gate: GateHandle) -> None:
        self._gate = gate
        self._lock = threading.Lock()
        self._pass = 0
        self._let_in: dict[str, int] = {}

    @property
    def pass_number(self) -> int:
        """The pass under way."""
        return self._pass

    def begin_pass(self) -> None:
        """From here on rows are those of another pass; `announce_pass` says so to the gate."""
        with self._lock:
            self._pass += 1
            self._let_in = {}

    def announce_pass(self) -> None:
        """Returns once the gate has forgotten what it let in before: whatever has not come back is issued again."""
        ray.get(self._gate.new_pass.remote(self._pass))

    def tell(self, pass_number: int, rows_back: int, shards_back: int, *, stopped: bool) -> GateState:
        """Tells how things stand, and asks the same.

        Args:
            pass_number: That `rows_back` is of.
            rows_back: Rows of that pass that are journalled, committed or counted as failed.
            shards_back: Its shards that are committed.
            stopped: Whether no further shard may enter.

        Raises:
            ray.exceptions.RayError: The gate cannot be reached.
        """
        said = DriverState(pass_number=pass_number, rows_back=rows_back, shards_back=shards_back, stopped=stopped)
        state: GateState = ray.get(self._gate.rows_back.remote(said), timeout=ANSWER_SECONDS)
        with self._lock:
            if state.pass_number == self._pass:
                self._let_in.update(state.let_in)
            let_in = dict(self._let_in) if state.forgot else {}
        if state.forgot:
            logger.warning("the gate was started anew: telling it of the %d shards that it had let in", len(let_in))
            ray.get(self._gate.remember.remote(state.pass_number, let_in), timeout=ANSWER_SECONDS)
        return state

    def stop(self) -> None:
        """Lets no further shard in; does not wait. What `tell` says later makes sure of it."""
        self._gate.stop.remote()

    def issued(self) -> Sequence[str]:
        """The shards that were let in, as far as the gate remembers."""
        shards: Sequence[str] = ray.get(self._gate.issued.remote())
        return shards

    def running(self) -> Mapping[tuple[str, str, int], str]:
        """The stage that each item entered last, while rows run one by one."""
        stages: Mapping[tuple[str, str, int], str] = ray.get(self._gate.running.remote())
        return stages

    def unread(self) -> Mapping[str, str]:
        """Shard to why it could not be read in this pass."""
        reasons: Mapping[str, str] = ray.get(self._gate.unread.remote())
        return reasons
