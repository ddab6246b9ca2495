"""Entry points: `python -m jobs.<verb>`, one a file, thin: parse, wire, report."""

import sys
from types import TracebackType


def _say_interrupted(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Ctrl-C while a command still imports what it needs, for a second or two, is no traceback either."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _say_interrupted
