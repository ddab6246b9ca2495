"""Tells when a run stands still, and which stage holds it up: told about every second how things stand, no Ray."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.heartbeat import SILENT_SECONDS, WorkerState


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSeen:
    """A worker as it was last heard of."""

    stage: str
    worker: str
    state: WorkerState
    silent_seconds: float
    """How long ago that was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """Where a run hangs."""

    stage: str
    reason: str
    """One line for a person."""


@dataclass(slots=True)
class Starts:
    """Tells when a stage cannot be started anywhere: some workers have failed, and so have those that loaded meanwhile.

    One broken node, or a hub that refuses some of many downloads at a time, ends no run.
    """

    tries: int
    """Workers of a stage that fail, with none ready, before it is given up."""
    _awaited: dict[str, set[str]] = field(default_factory=dict)
    """Stage to the workers that loaded when so many had failed, and may still succeed."""
    _said: dict[str, str] = field(default_factory=dict)

    def news(self, last_errors: Mapping[str, str]) -> list[str]:
        """Takes why a worker of each stage failed last.

        Returns:
            A line for a person for each stage of which that was not said yet: a run may go on without such a worker.
        """
        new = {stage: reason for stage, reason in last_errors.items() if self._said.get(stage) != reason}
        self._said.update(new)
        return [f"a worker of {stage} could not start: {reason}" for stage, reason in new.items()]

    def given_up(self, errors: Mapping[str, Sequence[str]], seen: Sequence[WorkerSeen]) -> str | None:
        """Takes why workers of each stage failed, forgotten once one is ready, and all that are heard of.

        Returns:
            One line for a person, once a stage is given up.
        """
        self._awaited = {stage: workers for stage, workers in self._awaited.items() if stage in errors}
        for stage, reasons in errors.items():
            loading = {one.worker for one in seen if one.stage == stage and one.state.phase != "ready"}
            if len(reasons) >= self.tries and not self._awaited.setdefault(stage, loading) & loading:
                return f"{stage} cannot start, tried {len(reasons)} times: {reasons[-1]}"
        return None


@dataclass(slots=True, kw_only=True)
class Watchdog:
    """Watches one pass over the graph.

    Progress is a row let in, a row that came back, a call of some worker that ended, or a stage's first worker: neither
    deaths nor workers that start again and again.
    """

    stages: Sequence[str]
    """Those of the pass, upstream first."""
    start_seconds: float
    """How long nothing may move while a stage has no worker that is ready, as nodes and models take their time; and how
    long a model may load, whatever moves, where the stage has never had a worker."""
    stuck_seconds: float
    """The same once all have one."""
    clock: Callable[[], float] = time.monotonic
    _last: float | None = None
    _rows: tuple[int, int] = (0, 0)
    _calls: dict[str, int] = field(default_factory=dict)
    _were_ready: set[str] = field(default_factory=set)

    def is_idle(self, seen: Sequence[WorkerSeen], seconds: float) -> bool:
        """Whether nothing has moved for so long and no worker that is heard of loads or works."""
        if self._last is None or self.clock() - self._last < seconds:
            return False
        return all(one.state.is_idle or one.silent_seconds > SILENT_SECONDS for one in seen)

    def all_were_ready(self, seen: Sequence[WorkerSeen]) -> bool:
        """Whether each stage has a worker that is ready, or had one when this was last told how things stand."""
        return set(self.stages) <= _ready(seen) | self._were_ready

    def observe(
        self, issued: int, arrived: int, seen: Sequence[WorkerSeen], start_errors: Mapping[str, str]
    ) -> Standstill | None:
        """Takes rows let in and rows back so far, workers, and each stage's last error at its start.

        Returns:
            Where it hangs, once it has for as long as it may.
        """
        now, ready = self.clock(), _ready(seen)
        moved = (issued, arrived) != self._rows or not ready <= self._were_ready or self._last is None
        for one in seen:
            moved |= one.state.calls > self._calls.get(one.worker, 0)
            self._calls[one.worker] = max(one.state.calls, self._calls.get(one.worker, 0))
        self._rows = (issued, arrived)
        self._were_ready |= ready
        if moved or self._last is None:
            self._last = now
            return self._loads_for_ever(seen, start_errors)
        waiting = [stage for stage in self.stages if stage not in ready]
        still_seconds = now - self._last
        if still_seconds < (self.start_seconds if waiting else self.stuck_seconds):
            return self._loads_for_ever(seen, start_errors)
        if waiting:
            return _not_started(waiting, seen, start_errors, still_seconds)
        return _hanging(self.stages, seen, still_seconds)

    def _loads_for_ever(self, seen: Sequence[WorkerSeen], start_errors: Mapping[str, str]) -> Standstill | None:
        """The stage that has never had a worker and whose model takes longer than it may, whatever the others do."""
        for one in seen:
            state = one.state
            is_late = state.phase == "loads" and state.phase_seconds + one.silent_seconds > self.start_seconds
            if is_late and one.stage in self.stages and one.stage not in self._were_ready:
                reason = f"{one.stage} has had no worker that is ready; one has loaded its model for "
                reason += f"{state.phase_seconds:.0f} s{_where(one)}"
                if one.stage in start_errors:
                    reason += f"; its last one failed: {start_errors[one.stage]}"
                return Standstill(stage=one.stage, reason=reason)
        return None


def _ready(seen: Sequence[WorkerSeen]) -> set[str]:
    """Stages with a worker that is ready."""
    return {one.stage for one in seen if one.state.phase == "ready"}


def _not_started(
    waiting: Sequence[str], seen: Sequence[WorkerSeen], start_errors: Mapping[str, str], still_seconds: float
) -> Standstill:
    """Blames a stage whose model failed, else one whose model still loads, else one that has no node."""
    failed = [stage for stage in waiting if stage in start_errors]
    loading = {one.stage: one for one in seen if one.stage in waiting}
    stage = next(iter(failed or [stage for stage in waiting if stage in loading] or waiting))
    start = f"{stage} has no worker that is ready, and nothing has moved for {still_seconds:.0f} s"
    if stage in start_errors:
        return Standstill(stage=stage, reason=f"{start}; its last one failed: {start_errors[stage]}")
    if stage in loading:
        one = loading[stage]
        doing = "has waited for its turn on the GPU" if one.state.phase == "queues" else "has loaded its model"
        return Standstill(stage=stage, reason=f"{start}; one {doing} for {one.state.phase_seconds:.0f} s{_where(one)}")
    return Standstill(stage=stage, reason=f"{start}: no node had room for one")


def _hanging(stages: Sequence[str], seen: Sequence[WorkerSeen], still_seconds: float) -> Standstill:
    start = f"nothing has moved for {still_seconds:.0f} s"
    ours = [one for one in seen if one.stage in stages]
    busy = [one for one in ours if one.state.busy_seconds > 0]
    if not busy:
        stage = stages[0]
        return Standstill(stage=stage, reason=f"{start}, and every worker waits for rows: reading or Ray is stuck")
    oldest = max(busy, key=lambda one: one.state.busy_seconds + one.silent_seconds)
    ran_seconds = oldest.state.busy_seconds + oldest.silent_seconds
    return Standstill(
        stage=oldest.stage,
        reason=f"stuck in {oldest.stage}: {start}, its oldest call runs for {ran_seconds:.0f} s{_where(oldest)}",
    )


def _where(one: WorkerSeen) -> str:
    silent = f", not heard of for {one.silent_seconds:.0f} s" if one.silent_seconds > 30 else ""
    return f" (node {one.state.node[:12]}, process {one.state.pid}{silent})"
