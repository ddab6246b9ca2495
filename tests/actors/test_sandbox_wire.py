"""Values and files across a socket: whole, without a copy to disk, and no descriptor too many."""

import os
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from actors.sandbox_wire import receive_message, receive_value, send_value

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("value", [None, ("failure", "corrupt", "über\n"), {"a": [1, 2.5, b"\0"]}, b"", "x" * 10**6])
def test_any_value_arrives_as_it_was(pair: Pair, value: object) -> None:
    before = descriptors()
    send_value(pair[0], value)
    assert receive_value(pair[1]) == value
    assert descriptors() == before


def test_arrays_lie_in_the_mapped_file_aligned_and_writable(pair: Pair) -> None:
    arrays = [np.arange(count, dtype=dtype) for count, dtype in ((0, "u1"), (7, "u1"), (5, "i2"), (1000, "f4"))]
    send_value(pair[0], {"arrays": arrays, "note": "n"})
    received = receive_value(pair[1])["arrays"]
    for sent, got in zip(arrays, received, strict=True):
        np.testing.assert_array_equal(got, sent)
        assert got.dtype == sent.dtype
        assert got.flags.writeable
        assert not len(got) or got.ctypes.data % 64 == 0
    received[1][:] = 9
    assert arrays[1].max() == 6, "the receiver's are its own"


def test_a_file_crosses_and_the_sender_keeps_its_own(pair: Pair) -> None:
    file = os.memfd_create("file")
    os.write(file, b"media")
    send_value(pair[0], "take this", files=[file])
    value, (received,) = receive_message(pair[1])
    assert value == "take this"
    assert os.pread(received, 10, 0) == b"media"
    os.close(received)
    assert os.pread(file, 10, 0) == b"media"
    os.close(file)


def test_messages_keep_their_order(pair: Pair) -> None:
    for number in range(20):
        send_value(pair[0], number)
    assert [receive_value(pair[1]) for _ in range(20)] == list(range(20))


def test_the_other_side_being_gone_is_told(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(EOFError, match="the other side of the sandbox is gone"):
        receive_value(pair[1])
    with pytest.raises(OSError, match="Broken pipe"):
        send_value(pair[1], "anybody?")


def test_too_many_arrays_for_a_message_are_refused(pair: Pair) -> None:
    before = descriptors()
    with pytest.raises(ValueError, match="are too many for one message"):
        send_value(pair[0], [np.zeros(1, dtype=np.uint8) for _ in range(8000)])
    assert descriptors() == before
