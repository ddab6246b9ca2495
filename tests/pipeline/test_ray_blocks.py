"""Blocks are taken in the caller's thread, and nothing of an execution outlives it."""

import threading
import time

import pytest
import ray

from pipeline.ray_blocks import await_executions, blocks_of

BLOCKS = 20
OF_THE_PROCESS = {"data-usage-metrics-poller"}
"""Ray Data's one thread that stays: it asks no Ray."""


def threads() -> set[str]:
    return {f"{thread.name} {thread.ident}" for thread in threading.enumerate() if thread.name not in OF_THE_PROCESS}


@pytest.mark.engine
@pytest.mark.parametrize("taken", [1, BLOCKS])
def test_no_thread_of_an_execution_is_left(light_ray: None, taken: int) -> None:
    before = threads()
    dataset = ray.data.range(BLOCKS, override_num_blocks=BLOCKS).map_batches(lambda batch: batch, batch_size=None)
    blocks = blocks_of(dataset)
    rows = sum(next(blocks).num_rows for _ in range(taken))
    blocks.close()
    await_executions(30)
    assert rows == taken
    assert threads() <= before, "one that still asks Ray for something as Ray shuts down ends the process"


def test_an_execution_that_does_not_end_is_waited_for_so_long_and_no_longer() -> None:
    over = threading.Event()
    threading.Thread(target=over.wait, name="StreamingExecutor-slow", daemon=True).start()
    started = time.monotonic()
    await_executions(0.2)
    waited = time.monotonic() - started
    over.set()
    assert waited >= 0.2
    await_executions(30)
    assert not any(thread.name == "StreamingExecutor-slow" for thread in threading.enumerate())
