"""What a probe's worker runs: the run's own adapter around a real stage, and what its processes use meanwhile."""

import contextlib
import os
import subprocess
from dataclasses import dataclass
from typing import Any

import psutil
import pyarrow as pa
import ray

from pipeline.decode_worker import DecodeWorker
from pipeline.spec import StageSpec
from pipeline.worker import StageWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a worker and its child processes hold and have used so far."""

    cpu_seconds: float
    memory_bytes: int
    """Main memory; pages that processes share are counted once."""
    gpu_memory_bytes: int | None
    """Memory in use on the worker's GPUs, whoever uses it; None without a GPU."""
    node_id: str


class ProbeWorker:
    """One worker of one stage, as a Ray actor.

    Args:
        spec: The stage.
        modalities: As `DecodeWorker` takes them.
    """

    def __init__(self, spec: StageSpec, modalities: dict[str, str]) -> None:
        self._spec = spec
        self._modalities = modalities
        self._worker: Any = None

    def empty(self) -> Usage:
        """What is in use before the stage is built."""
        return usage()

    def start(self) -> None:
        """Builds the stage: loads its model."""
        if self._spec.name == "decode":
            self._worker = DecodeWorker(self._spec, modalities=self._modalities)
        else:
            self._worker = StageWorker(self._spec, drop_frames=True, drop_audio=True)

    def run(self, table: pa.Table) -> pa.Table:
        """One call with one block."""
        done: pa.Table = self._worker(table)
        return done

    def usage(self) -> Usage:
        """What is in use now."""
        return usage()

    def close(self) -> None:
        """Frees the engine."""
        self._worker = None


def usage() -> Usage:
    """What this process and its children use."""
    cpu_seconds, memory_bytes = 0.0, 0
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            cpu_seconds += times.user + times.system + times.children_user + times.children_system
            memory_bytes += process.memory_full_info().pss
    return Usage(
        cpu_seconds=cpu_seconds,
        memory_bytes=memory_bytes,
        gpu_memory_bytes=gpu_memory_bytes(),
        node_id=ray.get_runtime_context().get_node_id(),
    )


def gpu_memory_bytes() -> int | None:
    """Memory in use on the GPUs that Ray gave this process, as the driver's own tool says; None without a GPU.

    Torch in this process would not see an engine's processes, and would itself take memory to ask.
    """
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if not devices or devices == "-1":
        return None
    command = ["nvidia-smi", f"--id={devices}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        return sum(int(line) * 2**20 for line in said.split())
    except (OSError, subprocess.SubprocessError, ValueError):  # no driver, or one that does not say
        return None
