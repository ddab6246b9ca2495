"""What Ray tells a driver by itself goes to the log, a line each: Ray prints it, whole tracebacks included (2.60)."""

import logging
import textwrap
from collections.abc import Mapping
from typing import Any

from ray._private import worker  # there is no public way

logger = logging.getLogger(__name__)

MOST_CHARACTERS = 300
_RETRIED = "so the task will be retried"


def notices_to_log() -> None:
    """From here on this process logs what is pushed to it: nodes that are lost, workers that are killed for memory.

    That a task is tried again is left to `--verbose`. The driver counts those itself, and says why in its own words.
    """
    worker.print_to_stdstream = _tell


def _tell(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    text = "\n".join(data["lines"])
    level = logging.DEBUG if _RETRIED in text else logging.WARNING
    logger.log(level, "Ray: %s", textwrap.shorten(text, MOST_CHARACTERS, placeholder=" …"))
