"""The byte budget: never more than it, never stuck, first come first served."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.in_flight import ByteBudget, InFlightConfig, Reservation, memory_bytes


def test_what_fits_is_let_in_and_what_does_not_must_wait() -> None:
    budget = ByteBudget(100)
    first = budget.try_reserve(60)
    assert first is not None
    assert budget.try_reserve(50) is None
    second = budget.try_reserve(40)
    assert second is not None
    assert budget.reserved_bytes == 100
    first.release()
    first.release()
    assert budget.reserved_bytes == 40


def test_a_larger_item_goes_alone() -> None:
    budget = ByteBudget(100)
    with budget.reserve(1):
        assert budget.try_reserve(1000) is None
    with budget.reserve(1000):
        assert budget.try_reserve(1) is None
    assert budget.reserved_bytes == 0


def test_who_waits_for_much_is_not_overtaken_by_who_wants_little() -> None:
    budget = ByteBudget(100)
    small = budget.reserve(10)
    order: list[str] = []

    def want(name: str, size_bytes: int) -> threading.Thread:
        def run() -> None:
            with budget.reserve(size_bytes):
                order.append(name)

        thread = threading.Thread(target=run)
        waiting = len(budget._queue)
        thread.start()
        while len(budget._queue) == waiting:
            pass
        return thread

    threads = [want("large", 100), want("little", 1)]
    assert budget.try_reserve(1) is None, "somebody waits already"
    small.release()
    for thread in threads:
        thread.join(timeout=20)
    assert order == ["large", "little"]


def test_a_size_that_was_not_known_is_put_right_when_it_is() -> None:
    budget = ByteBudget(100)
    held = budget.reserve(10)
    held.resize(150)
    assert budget.reserved_bytes == 150
    assert budget.try_reserve(1) is None
    held.resize(5)
    assert budget.try_reserve(95) is not None
    held.release()
    assert budget.reserved_bytes == 95


@given(st.lists(st.tuples(st.integers(0, 150), st.booleans()), max_size=40))
def test_the_sum_never_passes_the_budget_but_for_one_alone(wishes: list[tuple[int, bool]]) -> None:
    budget, held = ByteBudget(100), list[tuple[int, Reservation]]()
    for size_bytes, release_first in wishes:
        if release_first and held:
            held.pop(0)[1].release()
        total = sum(size for size, _ in held)
        got = budget.try_reserve(size_bytes)
        assert (got is not None) == (total == 0 or total + size_bytes <= 100)
        if got is not None:
            held.append((size_bytes, got))
        assert budget.reserved_bytes == sum(size for size, _ in held)


def test_the_default_budget_is_a_part_of_the_memory_there_is() -> None:
    assert 0 < InFlightConfig().budget().max_bytes < memory_bytes() / 4
    assert InFlightConfig(max_bytes=5).budget().max_bytes == 5
    with pytest.raises(ValueError, match="positive"):
        InFlightConfig(max_objects=0)
