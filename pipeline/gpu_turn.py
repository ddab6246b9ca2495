"""One start at a time on each shared GPU: engines measure its free memory as they start, and must be alone in that."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock


@contextlib.contextmanager
def gpu_turn(num_gpus: float, folder: str | None = None) -> Iterator[None]:
    """Holds a worker's GPU for its start; the lock goes with the process, however that ends.

    It is the machine's GPU, whichever cluster the worker belongs to, so that its file is one for all runs.

    Args:
        num_gpus: The worker's share; who has whole GPUs waits for nobody.
        folder: Where the lock lies; the system's temporary folder unless given.
    """
    if not 0 < num_gpus < 1:
        yield
        return
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")  # Ray gives each worker its own
    name = f"reelscribe-gpu-{os.getuid()}-{gpus.replace('/', '_') or 'all'}.lock"
    with FileLock(Path(folder or tempfile.gettempdir()) / name):
        yield
