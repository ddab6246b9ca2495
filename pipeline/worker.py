"""The one adapter between a stage and Ray Data: what a worker of an actor pool runs."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

import pyarrow as pa

from pipeline.gpu_turn import gpu_turn
from pipeline.heartbeat import Heartbeat, Listener, WorkerPhase
from pipeline.ray_tables import send_as_streams
from pipeline.spec import StageSpec
from records.errors import Failure, FailureKind, FatalError, one_line
from records.failures import stream_failure
from records.flow import FlowRow, flow_rows, read_audio, read_frames, with_outcomes, with_spent, without_media
from records.items import Row
from records.outcomes import Outcome

logger = logging.getLogger(__name__)

R = TypeVar("R")

DEAD_ENGINE_EXIT = 70
"""Exit code of a worker whose engine died twice running: Ray starts another worker."""


class Teller(Listener, Protocol):
    """Where a worker says what the driver must know although the worker may die of it."""

    def started(self, line: FlowRow, stage: str) -> None:
        """An item enters a stage. Called while rows run one by one, to know which of them kills."""
        ...

    def node(self) -> str:
        """Ray's id of this worker's node."""
        ...


class StageHolder:
    """A stage that is rebuilt when its engine dies: first here, then with the worker.

    One that holds no GPU sees none, and neither do its child processes: Ray leaves the machine's in sight of workers to
    which it gives none (2.60), and an engine would take one that nobody has counted. It works for as long as nothing in
    this process has asked CUDA for its devices, as no import of a stage does.
    """

    def __init__(self, spec: StageSpec, teller: Teller | None) -> None:
        self._build = spec.build
        self._prepare = spec.prepare
        self._name = spec.name
        self._num_gpus = spec.pool.num_gpus
        if self._num_gpus == 0:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._lock = threading.Lock()
        self._heart = Heartbeat(teller, spec.name, teller.node()) if teller is not None else None
        try:
            self._stage = self._start()
        except Exception as error:
            if self._heart is not None:
                self._heart.fails(one_line(error))
            raise
        self._builds = 1

    def _start(self) -> Any:  # noqa: ANN401 - whatever the spec builds
        """Builds the stage; alone on a GPU that it shares."""
        if self._prepare is not None:
            self._enter("loads")
            self._prepare()
        self._enter("queues")
        with gpu_turn(self._num_gpus):
            self._enter("loads")
            stage = self._build()
        self._enter("ready")
        return stage

    def _enter(self, phase: WorkerPhase) -> None:
        if self._heart is not None:
            self._heart.enter(phase)

    def call(self, run: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - whatever the stage returns
        """Runs a call on the stage; a dead engine is rebuilt once. A second death, or a failure to rebuild it, ends the
        process: what ails it may not be its engine's alone, and another worker may have another GPU."""
        with self._heart.call() if self._heart is not None else contextlib.nullcontext():
            return self._call(run)

    def _call(self, run: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - whatever the stage returns
        stage, builds = self._stage, self._builds
        try:
            return run(stage)
        except FatalError as error:
            logger.warning("stage=%s the engine died (%s), building it again", self._name, error)
        try:
            self._rebuild(builds)
        except Exception as error:  # noqa: BLE001 - whatever an engine raises over it, the worker is of no use
            self._leave(f"cannot be built again ({one_line(error)})")
        try:
            return run(self._stage)
        except FatalError as error:
            self._leave(f"died again ({error})")

    def _leave(self, why: str) -> NoReturn:
        logger.error("stage=%s the engine %s, leaving this worker", self._name, why)
        logging.shutdown()
        os._exit(DEAD_ENGINE_EXIT)

    def close(self) -> None:
        """Frees the engine: its processes, and what they keep on disk and in shared memory."""
        self._stage.close()

    def _rebuild(self, seen_builds: int) -> None:
        with self._lock:
            if self._builds == seen_builds:  # another call may have rebuilt it already
                self._stage.close()
                self._stage = self._start()
                self._builds += 1


class BusyClock:
    """Seconds in which at least one call was running."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0
        self._spent = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if self._running == 0:
                self._since = time.monotonic()
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1
            now = time.monotonic()
            self._spent += now - self._since
            self._since = now

    def take(self) -> float:
        """The seconds since the last time somebody took them."""
        with self._lock:
            spent, self._spent = self._spent, 0.0
            return spent


class StageWorker:
    """Runs one stage over blocks of the flow: only lines that have it pending; the others pass through untouched.

    Args:
        spec: The stage; it is built here, inside the worker.
        drop_frames: Empty the frames afterwards: nobody downstream looks at them.
        drop_audio: Likewise the sound.
        teller: Told if the stage cannot start.
        one_by_one: Whether the teller hears of each item before it runs.
    """

    def __init__(
        self,
        spec: StageSpec,
        *,
        drop_frames: bool = False,
        drop_audio: bool = False,
        teller: Teller | None = None,
        one_by_one: bool = False,
    ) -> None:
        self._spec = spec
        self._drop_frames = drop_frames
        self._drop_audio = drop_audio
        self._started = teller.started if teller is not None and one_by_one else None
        self._clock = BusyClock()
        if not spec.is_media:
            send_as_streams()
        self._holder = StageHolder(spec, teller)

    def __call__(self, table: pa.Table) -> pa.Table:
        """The block with this stage's outcomes added."""
        lines = flow_rows(table, (*self._spec.reads, self._spec.name))
        outcomes = [line.outcomes.get(self._spec.name) for line in lines]
        runnable: list[int] = []
        for index, line in enumerate(lines):
            if self._spec.name in line.pending and outcomes[index] is None:
                outcomes[index] = self._input_failure(line)
                if outcomes[index] is None:
                    runnable.append(index)
        if runnable:
            with self._clock:
                self._run(table, lines, runnable, outcomes)
            table = with_spent(table, self._spec.name, self._clock.take())
        table = with_outcomes(table, self._spec.name, outcomes)
        return without_media(table, frames=self._drop_frames, audio=self._drop_audio)

    def __del__(self) -> None:
        """Ray Data lets go of the worker so before its process ends."""
        if hasattr(self, "_holder"):  # else the stage could not be built
            self._holder.close()

    def _input_failure(self, line: FlowRow) -> Failure | None:
        if self._spec.modality is None:
            return None
        return stream_failure(line.outcomes.get("decode"), self._spec.modality)

    def _run(
        self,
        table: pa.Table,
        lines: Sequence[FlowRow],
        runnable: Sequence[int],
        outcomes: list[Outcome | Failure | None],
    ) -> None:
        rows = [self._row(table, lines[index], index) for index in runnable]
        if self._started is not None:
            for index in runnable:
                self._started(lines[index], self._spec.name)
        for index, outcome in zip(runnable, self._outcomes(rows), strict=True):
            outcomes[index] = outcome

    def _row(self, table: pa.Table, line: FlowRow, index: int) -> Row:
        return Row(
            item=line.item,
            metadata=line.metadata,
            frames=read_frames(table, index) if self._spec.modality == "video" else None,
            audio=read_audio(table, index) if self._spec.modality == "audio" else None,
            outcomes=line.outcomes,
        )

    def _outcomes(self, rows: Sequence[Row]) -> list[Outcome | Failure]:
        def call(indices: Sequence[int]) -> list[Outcome | Failure]:
            part = [rows[index] for index in indices]
            return list(self._holder.call(lambda stage: stage(part)))

        return one_outcome_each(self._spec.name, [row.item.video_id for row in rows], call)


def one_outcome_each(
    stage: str, video_ids: Sequence[str], call: Callable[[Sequence[int]], list[R]]
) -> list[R | Failure]:
    """One outcome a row; where a whole call fails, row by row, so that one bad row does not take the others.

    Args:
        stage: For the log and the failures.
        video_ids: One a row.
        call: Takes the indices of rows and gives their outcomes; may raise.
    """

    def run(indices: Sequence[int]) -> list[R | Failure]:
        try:
            return list(call(indices))
        except Exception as error:
            if len(indices) > 1:
                return [outcome for index in indices for outcome in run([index])]
            logger.exception("stage=%s video_id=%s failed", stage, video_ids[indices[0]])
            return [Failure(stage=stage, kind=FailureKind.ENGINE_ERROR, message=one_line(error))]

    return run(range(len(video_ids)))
