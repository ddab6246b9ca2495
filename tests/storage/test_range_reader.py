"""A file over ranges equals the bytes, and fetches little where it jumps and much where it goes on."""

import io

from hypothesis import given
from hypothesis import strategies as st

from storage.range_reader import RangeReader

DATA = bytes(range(256)) * 16

moves = st.lists(st.tuples(st.integers(0, len(DATA) + 50), st.integers(0, 700)), max_size=20)


@given(moves=moves, ahead=st.integers(0, 2000), buffer=st.integers(1, 600), until=st.none() | st.integers(0, len(DATA)))
def test_any_walk_equals_the_bytes(moves: list[tuple[int, int]], ahead: int, buffer: int, until: int | None) -> None:
    fetched: list[tuple[int, int]] = []

    def read(start: int, end: int) -> bytes:
        fetched.append((start, end))
        return DATA[start:end]

    file = io.BufferedReader(RangeReader(read, len(DATA), ahead, until), buffer_size=buffer)
    plain = io.BytesIO(DATA)
    for position, length in moves:
        assert file.seek(position) == plain.seek(position)
        assert file.read(length) == plain.read(length)
        assert file.tell() == plain.tell()
    assert all(0 <= start < end <= len(DATA) for start, end in fetched)


def lengths(positions: list[int], size: int, ahead: int) -> list[int]:
    found: list[int] = []

    def read(start: int, end: int) -> bytes:
        found.append(end - start)
        return bytes(end - start)

    file = io.BufferedReader(RangeReader(read, size, ahead), buffer_size=16)
    for position in positions:
        file.seek(position)
        file.read(16)
    return found


def test_a_walk_in_sequence_doubles_what_it_fetches_up_to_the_limit() -> None:
    assert lengths(list(range(0, 2000, 16)), 2000, 256) == [16, 32, 64, 128] + [256] * 6 + [224]


def test_a_walk_in_jumps_fetches_what_it_asks_for() -> None:
    assert lengths([0, 1000, 5000, 100, 9000], 10_000, 4096) == [16] * 5
