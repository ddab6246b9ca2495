"""What a decoder may do to its process; each is named here so that a sandbox's child can import it."""

import ctypes
import os
import signal
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from actors.decode_clip import Decoded, DecodeRequest, decode_clip
from records.errors import BadItemError, FailureKind


def echo(data: memoryview, request: object) -> tuple[bytes, object, int]:
    """What came in, and in which process."""
    return bytes(data), request, os.getpid()


def array_of(data: memoryview, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """An array of the asked shape that counts up."""
    return (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)


def misbehave(data: memoryview, request: object) -> bytes:
    """Does what the bytes say; returns them otherwise."""
    ACTIONS.get(bytes(data), lambda: None)()
    return bytes(data)


def count_and_die(data: memoryview, deaths: int) -> int:
    """Counts the call in the file that the bytes name; in the first ones its process is killed."""
    with open(bytes(data), "ab") as file:
        file.write(b"x")
    calls = os.path.getsize(bytes(data))
    if calls <= deaths:
        _kill()
    return calls


def decode_or_misbehave(data: memoryview, request: DecodeRequest) -> Decoded:
    """Decodes, unless the bytes name a misdeed."""
    action = ACTIONS.get(bytes(data[:32]))
    if action is not None:
        action()
    return decode_clip(data, request)


def _segfault() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    # In C and with the interpreter's lock held, as a looping codec would: no Python thread or signal gets a turn.
    ctypes.PyDLL(None).sleep(3600)


def _allocate() -> None:
    hoard = []
    while True:
        hoard.append(np.ones(16 << 20, np.uint8))
        # Slow enough for the watch over resident memory to come before the hard limit.
        time.sleep(0.005)


def _allocate_at_once() -> None:
    np.ones(64 << 30, np.uint8)


def _leak() -> None:
    LEAKED.append(np.ones(200 << 20, np.uint8))


def _exit() -> None:
    os._exit(3)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _abort() -> None:
    os.abort()


def _raise_plain() -> None:
    raise ValueError("first line\nsecond line " + "x" * 1000)


def _raise_bad_item() -> None:
    raise BadItemError(FailureKind.UNSUPPORTED, "known and named")


LEAKED: list[npt.NDArray[np.uint8]] = []
ACTIONS: dict[bytes, Callable[[], object]] = {
    b"segfault": _segfault,
    b"hang": _hang,
    b"allocate": _allocate,
    b"allocate_at_once": _allocate_at_once,
    b"leak": _leak,
    b"exit": _exit,
    b"abort": _abort,
    b"kill": _kill,
    b"raise": _raise_plain,
    b"bad_item": _raise_bad_item,
}
