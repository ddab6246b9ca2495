"""Calls and generators that wait for a store, run some at a time and read in order, in bounded memory."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from storage.text_size import text_length

S = TypeVar("S")
T = TypeVar("T")

_CHUNK = 256
_CHUNK_TEXT = 256 * 1024
_CHUNKS_WAITING = 8


def answers(questions: Iterable[S], ask: Callable[[S], T], *, at_once: int = 16) -> Iterator[tuple[S, T]]:
    """Each question with its answer, in order, while those to come are already asked; an error is raised in its place.

    At most twice `at_once` answers wait.
    """
    with ThreadPoolExecutor(at_once, thread_name_prefix="ask") as pool:
        asked: deque[tuple[S, Future[T]]] = deque()
        remaining = iter(questions)
        try:
            while True:
                while len(asked) < 2 * at_once and (question := next(remaining, None)) is not None:
                    asked.append((question, pool.submit(ask, question)))
                if not asked:
                    return
                question, answer = asked.popleft()
                yield question, answer.result()
        finally:
            for _, answer in asked:
                answer.cancel()


def in_order(sources: Iterable[S], work: Callable[[S], Iterator[T]], *, at_once: int) -> Iterator[T]:
    """What `work` yields of each source, in the order of the sources, while those to come are already under way.

    Each runs in a thread of its own and is held at 8 chunks until its turn comes, each of 256 results or 256 Ki
    characters. An error is raised in its place. Leaving the iterator early stops all of them.
    """
    stop = threading.Event()
    running: deque[_Running[T]] = deque()
    remaining = iter(sources)
    try:
        while True:
            while len(running) < at_once and (source := next(remaining, None)) is not None:
                running.append(_Running(work(source), stop))
            if not running:
                return
            yield from running[0].results()
            running.popleft()
    finally:
        stop.set()
        for one in running:
            one.join()


class _Running(threading.Thread, Generic[T]):
    """One generator in a thread of its own."""

    def __init__(self, generator: Iterator[T], stop: threading.Event) -> None:
        super().__init__(daemon=True, name="listing")
        self._generator = generator
        self._stop_asked = stop
        self._chunks: queue.Queue[list[T] | BaseException | None] = queue.Queue(_CHUNKS_WAITING)
        self.start()

    def run(self) -> None:
        """Fills the queue until the generator ends or nobody wants more."""
        last: BaseException | None = None
        chunk: list[T] = []
        text = 0
        try:
            for result in self._generator:
                chunk.append(result)
                text += text_length(result)
                if len(chunk) >= _CHUNK or text >= _CHUNK_TEXT:
                    if not self._put(chunk):
                        return
                    chunk, text = [], 0
        except BaseException as error:  # noqa: BLE001 - raised again where the results are read
            last = error
        if self._put(chunk):
            self._put(last)

    def results(self) -> Iterator[T]:
        """The generator's results."""
        while True:
            chunk = self._chunks.get()
            if chunk is None:
                return
            if isinstance(chunk, BaseException):
                raise chunk
            yield from chunk

    def _put(self, chunk: list[T] | BaseException | None) -> bool:
        while not self._stop_asked.is_set():
            try:
                self._chunks.put(chunk, timeout=0.5)
            except queue.Full:
                continue
            return True
        return False
