"""The child's own half: what a function raises becomes one line, and the process serves, limits itself and leaves."""

import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.sandbox_child import one_line, run
from actors.sandbox_wire import receive_value, send_value
from records.errors import BadItemError, FailureKind
from storage.fetched import FetchedMedia

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "import sys; from actors.sandbox_child import main; main(int(sys.argv[1]), int(sys.argv[2]))"
MIB = 1 << 20
LIMIT_BYTES = 100 * MIB


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the function is given, what its process may take, and how many files it has open."""

    data: bytes
    request: str
    readonly: bool
    core: tuple[int, int]
    memory: tuple[int, int]
    files: int


def describe(data: memoryview, request: str) -> Seen:
    """Named here for the child to import."""
    if request == "fail":
        raise BadItemError(FailureKind.UNSUPPORTED, "two\nlines")
    return Seen(
        data=bytes(data),
        request=request,
        readonly=data.readonly,
        core=resource.getrlimit(resource.RLIMIT_CORE),
        memory=resource.getrlimit(resource.RLIMIT_DATA),
        files=len(os.listdir("/proc/self/fd")),
    )


class Child:
    """The process and our end of its socket."""

    def __init__(self, parent_pid: int) -> None:
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.connection.settimeout(60)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(theirs.fileno()), str(parent_pid)],
                pass_fds=[theirs.fileno()], cwd=ROOT, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip

    def call(self, media: FetchedMedia, request: str = "") -> Any:  # noqa: ANN401 - what was pickled
        send_value(self.connection, (media.size_bytes, media.offset, request), [media.descriptor])
        return receive_value(self.connection)

    def see(self, media: FetchedMedia, request: str = "") -> Seen:
        kind, seen = self.call(media, request)
        assert kind == "result"
        assert isinstance(seen, Seen)
        return seen

    def end(self) -> tuple[int, str]:
        """Its exit code, and the last line that it said."""
        self.connection.close()
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said.strip().rpartition("\n")[2]


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child(os.getpid())
    send_value(child.connection, (describe, LIMIT_BYTES))
    assert receive_value(child.connection) == ("ready", None)
    yield child
    assert child.end() == (0, ""), "a parent that closes the socket is no error"


def test_calls_are_answered_in_turn_with_the_part_of_the_file_that_is_meant(child: Child) -> None:
    with (
        FetchedMedia.of_bytes(b"0123456789") as whole,
        FetchedMedia(os.dup(whole.descriptor), 4, offset=3) as part,
        FetchedMedia.of_bytes(b"") as empty,
    ):
        seen = [child.see(media, str(place)) for place, media in enumerate((whole, part, empty))]
    assert [(one.data, one.request) for one in seen] == [(b"0123456789", "0"), (b"3456", "1"), (b"", "2")]
    assert seen[0].readonly


def test_a_failure_is_an_answer_and_the_next_call_is_served(child: Child) -> None:
    with FetchedMedia.of_bytes(b"x") as media:
        assert child.call(media, "fail") == ("failure", FailureKind.UNSUPPORTED, "two lines")
        assert child.see(media).data == b"x"


def test_the_process_keeps_no_file_of_an_earlier_call(child: Child) -> None:
    with FetchedMedia.of_bytes(b"x" * MIB) as media:
        before = child.see(media).files
        for _ in range(5):
            child.call(media, "fail")
            assert child.see(media).files == before


def test_the_process_dumps_no_core_and_takes_no_more_than_twice_its_limit(child: Child) -> None:
    with FetchedMedia.of_bytes(b"x") as media:
        seen = child.see(media)
    own = int(Path(f"/proc/{child.process.pid}/statm").read_text().split()[5]) * resource.getpagesize()
    soft, hard = seen.memory
    assert seen.core == (0, 0)
    assert soft == hard
    assert abs(hard - own - 2 * LIMIT_BYTES) < 10 * MIB


def test_a_process_whose_parent_is_gone_leaves_before_it_serves() -> None:
    child = Child(os.getpid() + 1)
    assert child.end() == (1, "the parent is gone")


def raising(error: BaseException) -> Callable[[memoryview, object], object]:
    def function(data: memoryview, request: object) -> object:
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (BadItemError(FailureKind.TOO_LONG, "2 h\n long"), FailureKind.TOO_LONG, "2 h long"),
        (MemoryError(), FailureKind.OUT_OF_MEMORY, "allocation refused:"),
        (MemoryError("8 GiB"), FailureKind.OUT_OF_MEMORY, "allocation refused: 8 GiB"),
        (OSError(errno.ENOMEM, "no\nroom"), FailureKind.OUT_OF_MEMORY, "allocation refused: [Errno 12] no room"),
        (OSError(errno.EIO, "broken"), FailureKind.CORRUPT, "OSError: [Errno 5] broken"),
        (KeyError("moov"), FailureKind.CORRUPT, "KeyError: 'moov'"),
        (ValueError(), FailureKind.CORRUPT, "ValueError:"),
        (AssertionError("a\tb\r\n c"), FailureKind.CORRUPT, "AssertionError: a b c"),
    ],
    ids=repr,
)
def test_what_is_raised_becomes_a_kind_and_one_line(error: Exception, kind: FailureKind, message: str) -> None:
    assert run(raising(error), memoryview(b""), None) == ("failure", kind, message)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_ends_a_process_is_no_failure_of_the_item(error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(raising(error), memoryview(b""), None)


def test_a_result_is_handed_on_as_it_is() -> None:
    result = object()
    assert run(lambda data, request: (bytes(data), request, result), memoryview(b"ab"), 7) == (
        "result",
        (b"ab", 7, result),
    )


@settings(deadline=None)
@example(text="x" * 300)
@example(text="x" * 301)
@given(text=st.text(st.sampled_from("ab \n\r\t\u2028\x0b"), max_size=50))
def test_a_line_has_no_break_and_fits_and_loses_words_at_its_end_alone(text: str) -> None:
    line, words = one_line(text), " ".join(text.split())
    assert len(line.splitlines()) <= 1
    assert line == words if len(words) <= 300 else line == f"{words[:299]}…"
