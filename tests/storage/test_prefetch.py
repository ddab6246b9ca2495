"""Generators that run ahead: their order, their errors, their bounds, and their end."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.errors import UserError
from storage.prefetch import answers, in_order


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 700), max_size=12), at_once=st.integers(1, 5))
def test_results_come_in_the_order_of_the_sources(lengths: list[int], at_once: int) -> None:
    def work(length: int) -> Iterator[tuple[int, int]]:
        return ((length, number) for number in range(length))

    found = list(in_order(lengths, work, at_once=at_once))
    assert found == [(length, number) for length in lengths for number in range(length)]


def test_an_error_comes_in_its_place() -> None:
    def work(source: int) -> Iterator[int]:
        yield source
        if source == 2:
            raise ValueError("broken")

    before = threading.active_count()
    found: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        found.extend(in_order(range(9), work, at_once=3))
    results = in_order(range(9), work, at_once=3)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_who_leaves_early_leaves_no_thread_behind_and_no_source_is_opened_too_soon() -> None:
    opened: list[int] = []

    def work(source: int) -> Iterator[int]:
        opened.append(source)
        while True:
            yield source

    before = threading.active_count()
    results = in_order(iter(range(100)), work, at_once=4)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert opened == [0, 1, 2, 3]


def test_answers_come_in_order_and_few_are_asked_ahead() -> None:
    asked: list[int] = []

    def ask(number: int) -> int:
        asked.append(number)
        if number == 50:
            raise UserError("fifty")
        return number * 2

    found: list[tuple[int, int]] = []
    with pytest.raises(UserError, match="fifty"):
        found.extend(answers(range(1000), ask, at_once=4))
    assert found == [(number, number * 2) for number in range(50)]
    assert len(asked) <= 50 + 2 * 4


def test_long_results_wait_in_smaller_chunks() -> None:
    made: list[int] = []

    def work(source: int) -> Iterator[str]:
        for number in range(2_000):
            made.append(number)
            yield "x" * 100_000

    results = in_order([0], work, at_once=1)
    assert next(results) == "x" * 100_000
    results.close()  # type: ignore[attr-defined]
    assert len(made) <= 3 * (8 + 3), "three of them are a chunk; eight wait, one is read, one made, one given up"
