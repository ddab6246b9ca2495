"""Every error of the project, told apart by type and never by text.

ReelscribeError
├── UserError        the caller's mistake: an argument, a config, a source that is not there; one line, exit code 2
│   └── BusyError    another run holds the output's lease; names it
├── TransientError   throttling, a time-out, a reset: retried with backoff where it happens
├── FatalError       an engine or a worker is beyond use: raised out of a stage, which is then rebuilt
└── BadItemError     this item cannot be processed, whoever tries: becomes the row's `Failure`
"""

from dataclasses import dataclass
from enum import StrEnum

_LINE_CHARACTERS = 300


class ReelscribeError(Exception):
    """Base of the project's errors."""


class UserError(ReelscribeError, ValueError):
    """The caller's mistake; the message is one line that says what to change."""


class BusyError(UserError):
    """Another run holds the lease of this output."""


class TransientError(ReelscribeError):
    """A fault that may pass by itself; `kind` says what it becomes when it does not."""

    def __init__(self, kind: "FailureKind", message: str) -> None:
        super().__init__(message)
        self.kind = kind


class FatalError(ReelscribeError):
    """The engine behind a stage is dead: the stage must be rebuilt before it is called again."""


class FailureKind(StrEnum):
    """What went wrong with one item: the `kind` column of every stage table."""

    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    CHANGED = "changed"
    TOO_LARGE = "too_large"
    TOO_LONG = "too_long"
    NO_BYTES = "no_bytes"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    NO_SPACE = "no_space"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    ENGINE_ERROR = "engine_error"
    WORKER_CRASHED = "worker_crashed"


class BadItemError(ReelscribeError):
    """This item cannot be processed; `kind` says why."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def one_line(error: BaseException) -> str:
    """An error's type and the first line of what it says, cut where it would fill a table."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}"[:_LINE_CHARACTERS] if lines else type(error).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as a value: what a row holds where its result would be."""

    stage: str
    """The stage where it happened; a later stage that could not run because of it keeps this name."""
    kind: FailureKind
    message: str
    """One line for a person; never holds a credential."""
    attempts: int = 1
    """How often it was tried, over all runs."""
