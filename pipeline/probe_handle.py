"""A probe's worker as the driver sees it: asked for, called, and ended."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from pipeline.probe_worker import ProbeWorker, Usage
from pipeline.ray_nodes import live_node_ids
from pipeline.spec import StageSpec
from records.errors import FatalError, one_line

logger = logging.getLogger(__name__)


class ProbeHandle:
    """One probe worker on the cluster, and how long it has been held.

    Raises:
        FatalError: It cannot start.
    """

    def __init__(
        self,
        spec: StageSpec,
        modalities: dict[str, str],
        *,
        label_selector: Mapping[str, str],
        start_timeout_seconds: float,
    ) -> None:
        self._stage = spec.name
        self._started = False
        nodes = live_node_ids()
        self._began = asked = time.monotonic()
        remote: Any = ray.remote(ProbeWorker)
        self._actor = remote.options(
            num_cpus=spec.pool.num_cpus,
            num_gpus=spec.pool.num_gpus or None,
            memory=spec.pool.memory_bytes or None,
            label_selector=dict(label_selector) or None,
            max_concurrency=spec.pool.calls,
            max_restarts=0,
        ).remote(spec, modalities)
        try:
            self.before: Usage = self._get(self._actor.empty.remote(), start_timeout_seconds)
            self._started = True
            if self.before.node_id not in nodes:
                self._began = time.monotonic()
            self._get(self._actor.start.remote(), start_timeout_seconds)
            self.start_seconds = time.monotonic() - self._began
            self.start_cpu_seconds = self.usage().cpu_seconds
        except BaseException:
            self.close()
            raise
        self.node_seconds = self._began - asked

    def calls(self, blocks: Sequence[pa.Table]) -> list[pa.Table]:
        """Runs blocks, as many at a time as the pool's `calls`; results in order."""
        done: list[pa.Table] = self._get([self._actor.run.remote(block) for block in blocks])
        return done

    def usage(self) -> Usage:
        """What it uses now."""
        now: Usage = self._get(self._actor.usage.remote())
        return now

    def close(self) -> float:
        """Ends the worker and its engine; returns for how many seconds it was held."""
        try:
            ray.get(self._actor.close.remote(), timeout=60 if self._started else 0)
        except Exception as error:  # noqa: BLE001 - it is on its way out, or dead already, which `_get` has said
            logger.debug("stage=%s %s", self._stage, one_line(error))
        ray.kill(self._actor)
        return time.monotonic() - self._began

    def _get(self, refs: Any, timeout_seconds: float | None = None) -> Any:  # noqa: ANN401 - what the actor returns
        try:
            return ray.get(refs, timeout=timeout_seconds)
        except GetTimeoutError:
            raise FatalError(
                f"the probe's worker of {self._stage} did not start within {timeout_seconds:g} s: no node came, or its "
                "model still loads (graph.start_timeout_seconds)"
            ) from None
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise FatalError(f"{self._stage} failed on the sample: {one_line(cause)}") from error
        except RayActorError as error:
            raise FatalError(
                f"the probe's worker of {self._stage} died; if one item killed it, another --seed leaves it out: "
                f"{one_line(error)}"
            ) from error
        except RayError as error:  # out of memory, a node that is gone with what it held
            raise FatalError(f"the probe of {self._stage} was lost: {one_line(error)}") from error
