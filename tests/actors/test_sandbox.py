"""The sandbox with functions that do their worst, in real child processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from actors.sandbox import Sandbox
from records.errors import BadItemError, FailureKind, FatalError
from tests.actors import decode_stand_ins as stand_ins

MIB = 1 << 20


@pytest.fixture(scope="module")
def rough() -> Iterator[Sandbox[object, bytes]]:
    """One sandbox for all misdeeds: each must leave it fit for the next test."""
    sandbox = Sandbox(stand_ins.misbehave, timeout_seconds=60, memory_limit_bytes=300 * MIB)
    yield sandbox
    sandbox.close()


def failure(sandbox: Sandbox[object, bytes], deed: bytes) -> BadItemError:
    with pytest.raises(BadItemError) as caught:
        sandbox.run(deed, None)
    return caught.value


def test_bytes_and_request_arrive_and_the_child_is_kept() -> None:
    sandbox = Sandbox(stand_ins.echo, timeout_seconds=10, memory_limit_bytes=MIB * 500)
    try:
        pid = sandbox.child_pid
        for data in (b"", b"x", os.urandom(3_000_001)):
            assert sandbox.run(data, {"a": 1}) == (data, {"a": 1}, pid)
        assert pid != os.getpid()
    finally:
        sandbox.close()


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (1,), (7, 31, 33, 3), (64, 182, 322, 3)])
def test_arrays_come_back_whole_and_writable(shape: tuple[int, ...]) -> None:
    sandbox = Sandbox(stand_ins.array_of, timeout_seconds=30, memory_limit_bytes=MIB * 2000)
    try:
        array, expected = sandbox.run(b"", shape), stand_ins.array_of(memoryview(b""), shape)
        np.testing.assert_array_equal(array, expected)
        array[...] = 9
        again = sandbox.run(b"", shape)
        np.testing.assert_array_equal(again, expected)
        assert (array == 9).all()
    finally:
        sandbox.close()


@pytest.mark.parametrize(
    ("deed", "kind", "says"),
    [
        (b"segfault", FailureKind.CRASHED, "SIGSEGV"),
        (b"abort", FailureKind.CRASHED, "SIGABRT"),
        (b"exit", FailureKind.CRASHED, "exit status 3"),
        (b"kill", FailureKind.OUT_OF_MEMORY, "SIGKILL"),
        (b"allocate", FailureKind.OUT_OF_MEMORY, "took more than 300 MiB"),
        (b"allocate_at_once", FailureKind.OUT_OF_MEMORY, "allocation refused"),
        (b"raise", FailureKind.CORRUPT, "ValueError: first line second line"),
        (b"bad_item", FailureKind.UNSUPPORTED, "known and named"),
    ],
)
def test_each_misdeed_has_its_kind_and_costs_one_call(
    rough: Sandbox[object, bytes], deed: bytes, kind: FailureKind, says: str
) -> None:
    error = failure(rough, deed)
    assert error.kind == kind
    assert says in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) <= 300
    assert rough.run(b"good", None) == b"good"


def test_a_dead_child_is_replaced_and_a_living_one_is_not(rough: Sandbox[object, bytes]) -> None:
    rough.run(b"good", None)
    before = rough.child_pid
    failure(rough, b"raise")
    rough.run(b"good", None)
    assert rough.child_pid == before
    failure(rough, b"segfault")
    rough.run(b"good", None)
    assert rough.child_pid != before
    assert before is not None
    assert not psutil.pid_exists(before)


def test_a_hang_costs_its_time_limit_and_one_call() -> None:
    sandbox = Sandbox(stand_ins.misbehave, timeout_seconds=4.0, memory_limit_bytes=300 * MIB)
    try:
        started = time.monotonic()
        error = failure(sandbox, b"hang")
        assert (error.kind, str(error)) == (FailureKind.TIMEOUT, "took more than 4 s")
        assert time.monotonic() - started >= 4.0
        assert sandbox.run(b"good", None) == b"good"
    finally:
        sandbox.close()


def test_leaks_of_earlier_calls_are_not_held_against_a_later_one(rough: Sandbox[object, bytes]) -> None:
    for _ in range(5):
        assert rough.run(b"leak", None) == b"leak"


def test_a_child_killed_from_outside_between_calls_or_once_in_one_costs_nothing(tmp_path: Path) -> None:
    sandbox = Sandbox(stand_ins.count_and_die, timeout_seconds=60, memory_limit_bytes=300 * MIB)
    try:
        for deaths in (0, 1):
            pid = sandbox.child_pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert sandbox.run(str(tmp_path / f"{deaths}").encode(), deaths) == deaths + 1
        with pytest.raises(BadItemError) as caught:
            sandbox.run(str(tmp_path / "2").encode(), 2)
        assert caught.value.kind == FailureKind.OUT_OF_MEMORY, "the kernel kills what takes all memory"
        assert (tmp_path / "2").stat().st_size == 2
    finally:
        sandbox.close()


def test_ctrl_c_in_the_terminal_leaves_the_child_alone(rough: Sandbox[object, bytes]) -> None:
    rough.run(b"good", None)
    pid = rough.child_pid
    assert pid is not None
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert rough.run(b"good", None) == b"good"
    assert rough.child_pid == pid


def test_calls_from_several_threads_take_turns() -> None:
    sandbox = Sandbox(stand_ins.echo, timeout_seconds=30, memory_limit_bytes=MIB * 500)
    results: dict[int, bytes] = {}

    def call(number: int) -> None:
        for _ in range(20):
            results[number] = sandbox.run(str(number).encode(), number)[0]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sandbox.close()
    assert results == {number: str(number).encode() for number in range(6)}


def test_the_child_outlives_the_thread_that_built_the_sandbox() -> None:
    made: list[Sandbox[object, tuple[bytes, object, int]]] = []
    thread = threading.Thread(
        target=lambda: made.append(Sandbox(stand_ins.echo, timeout_seconds=10, memory_limit_bytes=MIB * 500))
    )
    thread.start()
    thread.join()
    # join() returns a moment before the kernel's thread is gone, and with it whatever is bound to it.
    while Path(f"/proc/self/task/{thread.native_id}").exists():
        pass
    try:
        assert made[0].run(b"x", None)[2] == made[0].child_pid
    finally:
        made[0].close()


def test_close_ends_the_child_even_during_a_call_and_twice() -> None:
    sandbox = Sandbox(stand_ins.misbehave, timeout_seconds=60, memory_limit_bytes=MIB * 300)
    pid = sandbox.child_pid
    raised: list[BaseException] = []

    def call() -> None:
        try:
            sandbox.run(b"hang", None)
        except FatalError as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    sandbox.close()
    thread.join(timeout=30)
    sandbox.close()
    assert not thread.is_alive()
    assert len(raised) == 1
    assert pid is not None
    assert not psutil.pid_exists(pid)
    with pytest.raises(FatalError):
        sandbox.run(b"good", None)


def test_children_die_with_a_parent_that_is_killed_while_they_hang() -> None:
    program = (
        "import threading\n"
        "from actors.sandbox import Sandbox\n"
        "from tests.actors.decode_stand_ins import misbehave\n"
        "sandbox = Sandbox(misbehave, timeout_seconds=600, memory_limit_bytes=1 << 29)\n"
        "threading.Thread(target=lambda: sandbox.run(b'hang', None), daemon=True).start()\n"
        "print(sandbox.child_pid, flush=True)\n"
        "input()\n"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_function_that_the_child_cannot_import_is_refused() -> None:
    def nested(data: memoryview, request: None) -> None:
        return None

    with pytest.raises((ValueError, AttributeError)):
        Sandbox(nested, timeout_seconds=1, memory_limit_bytes=MIB)


def test_descriptors_do_not_pile_up(rough: Sandbox[object, bytes]) -> None:
    rough.run(b"good", None)
    failure(rough, b"segfault")
    rough.run(b"good", None)
    before = psutil.Process().num_fds()
    for _ in range(30):
        rough.run(b"good", None)
    failure(rough, b"exit")
    rough.run(b"good", None)
    assert psutil.Process().num_fds() == before
