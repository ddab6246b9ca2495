"""Stage `decode`: fetches clips and decodes each in a child process, into facts, frames and sound.

Fetching runs ahead of decoding on threads, as far as a budget of bytes allows, and clips are decoded as they arrive. A
clip that crashes, hangs or bloats the decoder costs its own row.
"""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from actors.decode_clip import STAGE, Decoded, DecodeRequest, decode_clip
from actors.decode_config import REVISION, DecodeConfig
from actors.sandbox import Sandbox
from actors.sandbox_pool import SandboxPool
from records.errors import BadItemError, Failure, FailureKind, FatalError, TransientError
from records.failures import known_failure
from records.items import CatalogItem, Row
from storage.fetched import FetchedMedia
from storage.in_flight import InFlightConfig, Reservation

__all__ = ["REVISION", "DecodeConfig", "DecodeStage", "Decoded"]

logger = logging.getLogger(__name__)

_DEFAULT_IN_FLIGHT: Final = InFlightConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One row on its way."""

    index: int
    item: CatalogItem
    video: bool
    audio: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetch:
    """A row whose bytes are under way or there."""

    task: _Task
    reservation: Reservation

    def abandon(self, future: "Future[FetchedMedia]") -> None:
        """Lets go of what came for nobody."""
        self.reservation.release()
        if not future.cancelled() and future.exception() is None:
            future.result().close()


class DecodeStage:
    """Decodes clips; safe to call from as many threads at once as the pool's `calls`.

    Args:
        config: What to take, and the limits.
        fetch: Gives an item's bytes; raises BadItemError, or TransientError once its own retries are used up.
        decode: What runs in the child process; a test passes one that crashes, hangs or allocates.
        in_flight: How much is fetched ahead of decoding, over all calls.

    Raises:
        FatalError: The child processes do not start.
    """

    def __init__(
        self,
        config: DecodeConfig,
        fetch: Callable[[CatalogItem], FetchedMedia],
        decode: Callable[[memoryview, DecodeRequest], Decoded] = decode_clip,
        *,
        in_flight: InFlightConfig = _DEFAULT_IN_FLIGHT,
    ) -> None:
        self._config = config
        self._fetch = fetch
        self._closed = False
        self._calls = itertools.count()
        self._in_flight = in_flight
        self._budget = in_flight.budget()
        self._sandboxes = SandboxPool[DecodeRequest, Decoded](
            lambda: Sandbox(
                decode, timeout_seconds=config.timeout_seconds, memory_limit_bytes=config.memory_limit_bytes
            ),
            config.processes,
        )
        self._fetchers = ThreadPoolExecutor(in_flight.max_objects, thread_name_prefix="fetch")

    def __call__(
        self, rows: Sequence[Row], want_video: Sequence[bool], want_audio: Sequence[bool]
    ) -> list[Decoded | Failure]:
        """One outcome for each row, in order.

        Args:
            rows: The items.
            want_video: For each row, whether its frames are looked at by anybody.
            want_audio: For each row, whether its sound is.

        Raises:
            FatalError: The child process cannot be started any more, or the stage is closed.
        """
        if self._closed:
            raise FatalError("the decode stage is closed")
        place = next(self._calls)
        waiting = deque(
            _Task(index=index, item=row.item, video=video, audio=audio)
            for index, (row, video, audio) in enumerate(zip(rows, want_video, want_audio, strict=True))
        )
        fetching: dict[Future[FetchedMedia], _Fetch] = {}
        outcomes: dict[int, Decoded | Failure] = {}
        try:
            while waiting or fetching:
                while waiting and (reservation := self._reserve(waiting[0].item, ahead=bool(fetching))):
                    task = waiting.popleft()
                    future = self._fetchers.submit(self._fetch_within_limit, task.item)
                    fetching[future] = _Fetch(task=task, reservation=reservation)
                future = next(iter(wait(fetching, return_when=FIRST_COMPLETED).done))
                fetched = fetching.pop(future)
                outcomes[fetched.task.index] = self._decode(place, fetched, future)
        finally:
            for future, fetched in fetching.items():
                future.cancel()
                future.add_done_callback(fetched.abandon)
        return [outcomes[index] for index in range(len(rows))]

    def close(self) -> None:
        """Ends the child processes and the fetching threads. Safe to call twice."""
        self._closed = True
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        self._sandboxes.close()

    def _reserve(self, item: CatalogItem, *, ahead: bool) -> Reservation | None:
        """Room for an item: what is ahead of need takes it only if it is there, what is needed next waits for it."""
        size_bytes = self._in_flight.unknown_bytes if item.size_bytes is None else item.size_bytes
        if size_bytes > self._config.max_bytes:  # it will be refused unread
            size_bytes = 0
        return self._budget.try_reserve(size_bytes) if ahead else self._budget.reserve(size_bytes)

    def _fetch_within_limit(self, item: CatalogItem) -> FetchedMedia:
        self._check_size(item.size_bytes)
        if (known := known_failure(item)) is not None:
            raise BadItemError(known.kind, known.message)
        return self._fetch(item)

    def _check_size(self, size_bytes: int | None) -> None:
        if size_bytes is not None and size_bytes > self._config.max_bytes:
            raise BadItemError(FailureKind.TOO_LARGE, f"{size_bytes} bytes, more than {self._config.max_bytes}")

    def _decode(self, place: int, fetched: _Fetch, future: "Future[FetchedMedia]") -> Decoded | Failure:
        task = fetched.task
        try:
            with fetched.reservation, future.result() as media:
                fetched.reservation.resize(media.size_bytes)
                self._check_size(media.size_bytes)
                request = DecodeRequest(config=self._config, video=task.video, audio=task.audio)
                try:
                    return self._sandboxes.run(place, media, request)
                finally:
                    media.verify()  # whatever came of it: a file that changed meanwhile is `changed`
        except (BadItemError, TransientError) as error:
            logger.info("%s: %s: %s", task.item.video_id, error.kind, error)
            return Failure(stage=STAGE, kind=error.kind, message=str(error))
