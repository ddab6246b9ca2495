"""Blocks of a dataset, taken in the caller's thread, and the end of the threads that made them."""

import threading
import time
from collections.abc import Generator

import pyarrow as pa
import ray
from ray.data import Dataset
from ray.data.block import BlockAccessor

_THREADS = ("StreamingExecutor-", "ray-data-metadata-prefetch")
"""How the names of Ray Data's threads (2.60) begin that ask Ray for something until their execution is over."""


def blocks_of(dataset: Dataset) -> Generator[pa.Table]:
    """Runs a dataset and gives its blocks as they come. Closed, it ends the execution before it returns.

    `Dataset.iter_batches` (2.60) takes blocks in a thread of its own, which ends the execution some time after nobody
    takes any more: at worst while Ray shuts down, and whoever asks Ray for something then ends the process, silently
    and with code 1.
    """
    for bundle in dataset.iter_internal_ref_bundles():
        for ref in bundle.block_refs:
            block = BlockAccessor.for_block(ray.get(ref)).to_arrow()
            if block.num_rows:  # one without rows may have no columns either
                yield block


def await_executions(seconds: float) -> None:
    """Waits for the threads of executions that are over, each of which is given 2 s by Ray Data to end."""
    until = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name.startswith(_THREADS):
            thread.join(max(until - time.monotonic(), 0.0))
