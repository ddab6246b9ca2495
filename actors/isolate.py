"""One bad item in a batch costs itself and not its neighbours, and a dead engine is told from a bad item."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from records.errors import BadItemError, Failure, FailureKind, FatalError, TransientError, one_line

logger = logging.getLogger(__name__)

I = TypeVar("I")  # noqa: E741 - an item
O = TypeVar("O")  # noqa: E741 - an outcome


def isolate(
    items: Sequence[I], work: Callable[[Sequence[I]], Sequence[O]], probe: Callable[[], object]
) -> list[O | Exception]:
    """Works on all items at once; where that raises, on each alone.

    An engine's own exceptions do not say whether the input or the engine is at fault. So after an item that fails
    alone, `probe` gives the engine work that cannot fail: where it does, the engine is dead.

    Args:
        items: What to work on; at most one call of `work` where all goes well.
        work: One outcome for each item, in order.
        probe: Raises where the engine is beyond use.

    Returns:
        One entry for each item, in order: its outcome, or what it raised when alone.

    Raises:
        FatalError: `work` raised it, or the probe failed after an item.
    """
    if not items:
        return []
    try:
        outcomes = list(work(items))
    except FatalError:
        raise
    except Exception as error:  # noqa: BLE001 - an engine may raise anything; it becomes the item's failure
        if len(items) > 1:
            logger.warning("a batch of %d failed (%s); trying its items one by one", len(items), one_line(error))
            return [outcome for item in items for outcome in isolate([item], work, probe)]
        try:
            probe()
        except Exception as dead:  # noqa: BLE001 - as above; raised again as what it means
            raise FatalError(f"the engine fails on blank input too: {one_line(dead)}") from error
        return [error]
    if len(outcomes) != len(items):
        raise FatalError(f"the engine gave {len(outcomes)} outcomes for {len(items)} items")
    return list(outcomes)


def failure_from(stage: str, error: Exception) -> Failure:
    """The row's failure for what its item raised."""
    if isinstance(error, BadItemError | TransientError):
        return Failure(stage=stage, kind=error.kind, message=one_line(error))
    # torch.OutOfMemoryError is a RuntimeError that is told by its name here, so that this module needs no torch.
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    kind = FailureKind.OUT_OF_MEMORY if out_of_memory else FailureKind.ENGINE_ERROR
    return Failure(stage=stage, kind=kind, message=one_line(error))
