"""Runs a function over items on threads, a few ahead of the consumer, and gives the results in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(function: Callable[[T], R], items: Iterable[T], *, depth: int) -> Iterator[R]:
    """The results in the order of the items; at most `depth` are running or waiting to be taken.

    Raises:
        Exception: Whatever the function raised, at the item's turn; what waits is given up.
    """
    pool = ThreadPoolExecutor(depth, thread_name_prefix="ahead")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
