"""How a worker tells the gate what it does. A module of its own: a worker imports no more of the graph than this."""

import contextlib
from dataclasses import dataclass

import ray

from pipeline.gate import GateHandle
from pipeline.heartbeat import Answer, WorkerState
from records.flow import FlowRow


@dataclass(frozen=True, slots=True)
class GateTeller:
    """Tells the gate and waits until it knows: the next thing the worker does may be to die."""

    gate: GateHandle

    def started(self, line: FlowRow, stage: str) -> None:
        ray.get(self.gate.started.remote(line.shard_id, line.item.video_id, line.item.version, stage))

    def beat(self, stage: str, worker: str, state: WorkerState) -> Answer:
        try:
            wants_stacks = ray.get(self.gate.beat.remote(stage, worker, state))
        except ray.exceptions.ActorDiedError:
            return "over"
        except ray.exceptions.RayError:
            return "go on"  # the gate cannot be reached just now
        return "stacks" if wants_stacks else "go on"

    def stacks(self, stage: str, worker: str, text: str) -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self.gate.stacks.remote(stage, worker, text))

    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def cannot_start(self, stage: str, worker: str, reason: str) -> None:
        ray.get(self.gate.cannot_start.remote(stage, worker, reason))
