"""Stage `decode`: fetches clips and decodes each in a child process, into facts, frames and sound.

Fetching runs ahead of decoding on threads, so that neither waits for the other. A clip that crashes, hangs or bloats
the decoder costs its own row.
"""

import logging
import queue
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from actors.decode_clip import STAGE, Decoded, DecodeRequest, decode_clip
from actors.decode_config import REVISION, DecodeConfig
from actors.sandbox import Sandbox
from records.errors import BadItemError, Failure, FailureKind, FatalError, TransientError
from records.items import CatalogItem, Row

__all__ = ["REVISION", "DecodeConfig", "DecodeStage", "Decoded"]

logger = logging.getLogger(__name__)


class DecodeStage:
    """Decodes clips; safe to call from as many threads at once as the pool's `calls`.

    Args:
        config: What to take, and the limits.
        fetch: Gives an item's bytes; raises BadItemError, or TransientError once its own retries are used up.
        decode: What runs in the child process; a test passes one that crashes, hangs or allocates.

    Raises:
        FatalError: The child processes do not start.
    """

    def __init__(
        self,
        config: DecodeConfig,
        fetch: Callable[[CatalogItem], bytes],
        decode: Callable[[memoryview, DecodeRequest], Decoded] = decode_clip,
    ) -> None:
        self._config = config
        self._fetch = fetch
        self._closed = False
        self._fetchers = ThreadPoolExecutor(config.fetch_ahead, thread_name_prefix="fetch")
        self._idle: queue.SimpleQueue[Sandbox[DecodeRequest, Decoded]] = queue.SimpleQueue()
        self._sandboxes: list[Sandbox[DecodeRequest, Decoded]] = []
        try:
            for _ in range(config.pool.calls):
                sandbox = Sandbox(
                    decode, timeout_seconds=config.timeout_seconds, memory_limit_bytes=config.memory_limit_bytes
                )
                self._sandboxes.append(sandbox)
                self._idle.put(sandbox)
        except BaseException:
            self.close()
            raise

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
        waiting = deque(zip(rows, want_video, want_audio, strict=True))
        fetching: deque[tuple[Row, bool, bool, Future[bytes]]] = deque()
        outcomes: list[Decoded | Failure] = []
        try:
            while waiting or fetching:
                while waiting and len(fetching) < self._config.fetch_ahead:
                    row, video, audio = waiting.popleft()
                    fetching.append((row, video, audio, self._fetchers.submit(self._fetch_within_limit, row.item)))
                row, video, audio, future = fetching.popleft()
                outcomes.append(self._decode(row.item, future, video=video, audio=audio))
        finally:
            for *_, future in fetching:
                future.cancel()
        return outcomes

    def close(self) -> None:
        """Ends the child processes and the fetching threads. Safe to call twice."""
        self._closed = True
        self._fetchers.shutdown(wait=False, cancel_futures=True)
        for sandbox in self._sandboxes:
            sandbox.close()

    def _fetch_within_limit(self, item: CatalogItem) -> bytes:
        self._check_size(item.size_bytes)
        data = self._fetch(item)
        self._check_size(len(data))
        return data

    def _check_size(self, size_bytes: int | None) -> None:
        if size_bytes is not None and size_bytes > self._config.max_bytes:
            raise BadItemError(FailureKind.TOO_LARGE, f"{size_bytes} bytes, more than {self._config.max_bytes}")

    def _decode(self, item: CatalogItem, future: "Future[bytes]", *, video: bool, audio: bool) -> Decoded | Failure:
        try:
            data = future.result()
            sandbox = self._idle.get()
            try:
                return sandbox.run(data, DecodeRequest(config=self._config, video=video, audio=audio))
            finally:
                self._idle.put(sandbox)
        except (BadItemError, TransientError) as error:
            logger.info("%s: %s: %s", item.video_id, error.kind, error)
            return Failure(stage=STAGE, kind=error.kind, message=str(error))
