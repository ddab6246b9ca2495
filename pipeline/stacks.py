"""What the workers of a stage that holds up a run are doing, for the log."""

import logging
from collections import Counter
from collections.abc import Callable

import ray

from cluster.capacity import Capacity
from pipeline.gate import GateHandle
from pipeline.heartbeat import BEAT_SECONDS
from pipeline.ray_session import cluster_capacity
from records.errors import one_line

logger = logging.getLogger(__name__)

MOST_STACKS = 4
"""Different stacks that are logged."""


def log_stacks(gate: GateHandle, stage: str, wait: Callable[[float], object]) -> None:
    """Asks every worker of a stage for its stacks, and says what of the cluster is free.

    Args:
        wait: Waits for so many seconds: a worker answers with its next beat.
    """
    try:
        ray.get(gate.want_stacks.remote(stage), timeout=60)
        wait(2 * BEAT_SECONDS + 1)
        texts = Counter[str](ray.get(gate.take_stacks.remote(), timeout=60))
        for text, workers in texts.most_common(MOST_STACKS):
            logger.error("stacks of %d workers of %s:\n%s", workers, stage, text)
        free = Capacity.of(ray.available_resources())  # type: ignore[no-untyped-call]
        logger.error("of the cluster's %s are free: %s", cluster_capacity(), free)
    except Exception as error:  # noqa: BLE001 - likeliest where Ray itself stands still
        logger.warning("the stacks of %s are not to be had: %s", stage, one_line(error))
