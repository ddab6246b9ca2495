"""The probe: real stages over a sample, one stage after the other, each in waves of clips that are about as long.

A wave is as many rows as a worker of the run has at once, if its duration class has two of those. So an engine is
measured as full as the sample can make it. Nothing is committed.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from cluster.estimate import DurationClass, Wave, duration_classes
from pipeline.graph import GraphConfig
from pipeline.in_flight import call_rows
from pipeline.probe_handle import ProbeHandle
from pipeline.probe_worker import Usage
from pipeline.spec import Specs, StageSpec
from records.errors import Failure
from records.flow import FlowRow, flow_rows, flow_table, spent_seconds, with_outcomes
from records.outcomes import MediaFacts, Outcome
from records.schemas import StageRow, VectorDtype, stage_schema, stage_table
from storage.tables import encode_table

logger = logging.getLogger(__name__)

Outcomes = list[Outcome | Failure | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProbe:
    """What one stage took."""

    rows: int
    """Sampled items that it ran or passed on as failed."""
    failed: int
    waves: tuple[Wave, ...]
    start_seconds: float
    """From asking for the worker, or from when a node came for it, until its model was loaded."""
    start_cpu_seconds: float
    """Seconds of one core that its processes used for that."""
    node_seconds: float
    """How long the node took to come; 0 where it was there."""
    rows_at_once: int
    """Most rows that were with the worker at a time."""
    full_rows: int
    """Rows that a worker of a run has at a time."""
    output_bytes_per_item: float
    """In its Parquet file."""
    block_bytes_per_item: float
    """On the way to the next stage, frames and sound included."""
    memory_bytes: int
    gpu_memory_bytes: int | None
    """What loading and running took of the GPU; None where there is none."""
    node_id: str
    """The node it ran on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a sample took."""

    classes: tuple[DurationClass, ...]
    stages: Mapping[str, StageProbe]
    items: int
    seconds: float
    gpu_seconds: float
    """GPUs held, times seconds."""


@dataclass(slots=True)
class Probe:
    """Runs the stages over the sampled lines.

    Args:
        specs: The stages that have work, upstream first.
        modalities: Stage to stream, for every stage of the run.
        config: How rows are cut into blocks, and how long a worker may take to start.
        vector_dtype: How vectors are stored.
        label_selectors: Stage to the nodes that its worker may take; any of them for those that are not in it.
    """

    specs: Specs
    modalities: dict[str, str]
    config: GraphConfig
    vector_dtype: VectorDtype
    label_selectors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _gpu_seconds: float = field(default=0.0, init=False)

    def run(self, lines: Sequence[FlowRow]) -> ProbeResult:
        """Probes every stage.

        Raises:
            FatalError: A stage cannot start, or an item kills its worker.
        """
        began = time.monotonic()
        table, classes, class_of = flow_table(lines), [DurationClass(start_seconds=0, end_seconds=1, items=0)], [0]
        stages: dict[str, StageProbe] = {}
        for position, (name, spec) in enumerate(self.specs.items()):
            logger.info("probing %s on %d items", name, table.num_rows)
            worker = ProbeHandle(
                spec,
                self.modalities,
                label_selector=self.label_selectors.get(name, {}),
                start_timeout_seconds=self.config.start_timeout_seconds,
            )
            try:
                if not position:
                    table, classes, class_of = self._by_duration(table, worker if name == "decode" else None)
                stages[name], table = self._stage(spec, worker, table, class_of)
            finally:
                self._gpu_seconds += worker.close() * spec.pool.num_gpus
        return ProbeResult(
            classes=tuple(classes),
            stages=stages,
            items=len(lines),
            seconds=time.monotonic() - began,
            gpu_seconds=self._gpu_seconds,
        )

    def _by_duration(
        self, table: pa.Table, decode: ProbeHandle | None
    ) -> tuple[pa.Table, list[DurationClass], list[int]]:
        """The lines by class, the classes, and the class of each: known from stored facts or a first decoding.

        Within a class they stay as they were drawn: waves that differ by duration too would seem to spread more.
        """
        known = table
        if decode is not None:
            known = pa.concat_tables(decode.calls(list(_blocks(table, self.config.block_rows))))
        lengths = [_seconds_of(line) for line in flow_rows(known, ("decode",))]
        classes, class_of = duration_classes(lengths)
        order = np.argsort(class_of, kind="stable")
        return table.take(pa.array(order.tolist(), type=pa.int64())), classes, class_of[order].tolist()

    def _stage(
        self, spec: StageSpec, worker: ProbeHandle, table: pa.Table, class_of: Sequence[int]
    ) -> tuple[StageProbe, pa.Table]:
        """What the stage took, and the table with its outcomes; decode's frames and sound stay in it."""
        block = call_rows(spec, self.config)
        full = spec.pool.calls * block
        mine = [index for index, line in enumerate(flow_rows(table, ())) if self._has_work(spec, line)]
        if mine and spec.name != "decode":  # which has run already, to learn how long the clips are
            worker.calls([table.slice(mine[0], 1)])  # what an engine does once, at its first call, is no item's cost
        waves: list[Wave] = []
        parts: dict[int, pa.Table] = {}
        at_once = 0
        for class_index in sorted(set(class_of)):
            rows = [index for index in mine if class_of[index] == class_index]
            size = min(full, -(-len(rows) // 2)) or 1
            for start in range(0, len(rows), size):
                here = rows[start : start + size]
                wave, done = _wave(worker, spec.name, table.take(pa.array(here, type=pa.int64())), class_index, block)
                waves.append(wave)
                parts |= {index: done.slice(offset, 1) for offset, index in enumerate(here)}
                at_once = max(at_once, len(here))
        made = pa.concat_tables([parts[index] for index in mine]) if mine else table.slice(0, 0)
        outcomes = [line.outcomes.get(spec.name) for line in flow_rows(made, (spec.name,))]
        last = worker.usage()
        probe = StageProbe(
            rows=len(mine),
            failed=sum(isinstance(outcome, Failure) for outcome in outcomes),
            waves=tuple(waves),
            start_seconds=worker.start_seconds,
            start_cpu_seconds=worker.start_cpu_seconds,
            node_seconds=worker.node_seconds,
            rows_at_once=at_once,
            full_rows=full,
            output_bytes_per_item=self._file_bytes(spec.name, made, outcomes) / max(len(mine), 1),
            block_bytes_per_item=made.nbytes / max(len(mine), 1),
            memory_bytes=last.memory_bytes,
            gpu_memory_bytes=_more(last, worker.before),
            node_id=last.node_id,
        )
        return probe, _merged(spec.name, table, parts, mine, outcomes)

    def _has_work(self, spec: StageSpec, line: FlowRow) -> bool:
        """Decode works also for lines whose facts are stored, where a stage looks at their frames or sound."""
        if spec.name == "decode":
            return any(stage == "decode" or stage in self.modalities for stage in line.pending)
        return spec.name in line.pending

    def _file_bytes(self, stage: str, table: pa.Table, outcomes: Outcomes) -> int:
        lines = flow_rows(table, ())
        rows = [
            StageRow(video_id=line.item.video_id, version=line.item.version, generation=0, outcome=outcome)
            for line, outcome in zip(lines, outcomes, strict=True)
            if outcome is not None
        ]
        return len(encode_table(stage_table(stage, rows, "float32").cast(stage_schema(stage, self.vector_dtype))))


def _wave(worker: ProbeHandle, stage: str, table: pa.Table, class_index: int, block_rows: int) -> tuple[Wave, pa.Table]:
    before = worker.usage()
    done = pa.concat_tables(worker.calls(list(_blocks(table, block_rows))))
    wave = Wave(
        class_index=class_index,
        rows=table.num_rows,
        seconds=spent_seconds(done).get(stage, 0.0) - spent_seconds(table).get(stage, 0.0),
        cpu_seconds=worker.usage().cpu_seconds - before.cpu_seconds,
    )
    return wave, done


def _blocks(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _merged(
    stage: str, table: pa.Table, parts: Mapping[int, pa.Table], mine: Sequence[int], outcomes: Outcomes
) -> pa.Table:
    """The whole sample after a stage: decode's own lines with their media, of others the outcome alone."""
    if stage == "decode":
        return pa.concat_tables([parts.get(index, table.slice(index, 1)) for index in range(table.num_rows)])
    known = [line.outcomes.get(stage) for line in flow_rows(table, (stage,))]
    for index, outcome in zip(mine, outcomes, strict=True):
        known[index] = outcome
    return with_outcomes(table, stage, known)


def _seconds_of(line: FlowRow) -> float:
    """A clip's duration; 0 where decoding failed."""
    facts = line.outcomes.get("decode")
    return facts.duration_seconds if isinstance(facts, MediaFacts) else 0.0


def _more(now: Usage, before: Usage) -> int | None:
    if now.gpu_memory_bytes is None or before.gpu_memory_bytes is None:
        return None
    return now.gpu_memory_bytes - before.gpu_memory_bytes
