"""Entry points: `python -m jobs.<verb>`, one a file, thin: parse, wire, report."""

import os
import signal
import sys
from types import FrameType


def _say_interrupted(number: int, frame: FrameType | None) -> None:
    """Ctrl-C while a command still imports what it needs, for a second or two: no traceback, which some import eats."""
    os.write(2, b"interrupted\n")
    os._exit(128 + number)


# Under `python -m jobs.<verb>`, which imports this first, until `run_command`; who else imports it is left alone.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, _say_interrupted)
