"""What a long loop says of itself in the log."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

TELL_SECONDS = 30.0


def told(things: Iterable[T], words: str) -> Iterator[T]:
    """The things as they are, with a line at an interval that says how many there were.

    Args:
        things: Any number of them.
        words: The line, with a `%s` for the number.
    """
    last = time.monotonic()
    for number, thing in enumerate(things):
        if (now := time.monotonic()) - last >= TELL_SECONDS:
            logger.info(words, f"{number:,}")
            last = now
        yield thing
