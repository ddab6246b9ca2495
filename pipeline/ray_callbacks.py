"""What is called in each step of Ray Data's scheduler."""

import contextlib
from collections.abc import Iterator

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback  # no public way sees a running graph


@contextlib.contextmanager
def calling(callback: type[ExecutionCallback]) -> Iterator[None]:
    """Each execution that is built and run while the context is open makes one and calls it.

    The class goes to every worker with Ray Data's settings: what it closes over must be picklable.
    """
    classes = DataContext.get_current().custom_execution_callback_classes
    classes.append(callback)
    try:
        yield
    finally:
        classes.remove(callback)
