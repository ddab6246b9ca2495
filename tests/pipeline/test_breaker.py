"""The breaker trips on a share of one kind over the last rows, and on nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.breaker import Breaker, BreakerConfig

SMALL = BreakerConfig(max_error_share=0.2, window_rows=50, min_rows=20)


def test_a_few_broken_files_of_a_small_folder_do_not_trip_it() -> None:
    breaker = Breaker(SMALL)
    for _ in range(4):
        breaker.record(["corrupt"])
    assert breaker.tripped is None


def test_credentials_that_expire_trip_it_with_their_kind() -> None:
    breaker = Breaker(SMALL)
    for _ in range(100):
        breaker.record([])
    for _ in range(10):
        breaker.record(["forbidden"])
    assert breaker.tripped is None
    breaker.record(["forbidden"])
    assert breaker.tripped == "forbidden"


def test_different_kinds_are_not_added_up() -> None:
    breaker = Breaker(SMALL)
    for number in range(50):
        breaker.record([("corrupt", "timeout", "too_large", "not_found", "crashed", "")[number % 6]])
    assert breaker.tripped is None


def test_files_that_the_catalog_knows_to_be_empty_neither_trip_it_nor_hide_others() -> None:
    breaker = Breaker(SMALL)
    for number in range(1000):
        breaker.record(["no_bytes"])
        if number % 50 == 0:
            breaker.record(["forbidden"] if number >= 500 else [])
    assert breaker.tripped == "forbidden"
    assert breaker.rows == 20


def test_a_retry_runs_without_it() -> None:
    breaker = Breaker(SMALL, enabled=False)
    for _ in range(100):
        breaker.record(["corrupt"])
    assert breaker.tripped is None
    assert breaker.settle_rows == 0


def ended(rows: list[list[str]], *, enabled: bool = True) -> str | None:
    breaker = Breaker(SMALL, enabled=enabled)
    for kinds in rows:
        breaker.record(kinds)
    breaker.end()
    return breaker.tripped


def test_credentials_that_expire_just_before_the_end_trip_it_there() -> None:
    good: list[list[str]] = [[]] * 100
    refused, bad = [["forbidden"]], [["corrupt"]]
    assert ended(good + refused * 5) == "forbidden"
    assert ended(good + refused * 4) is None
    assert ended(good + refused * 5 + [[]] * 20) is None, "good rows came after them"
    assert ended(good + bad * 9) is None, "broken videos may lie together"
    assert ended(good + refused * 5, enabled=False) is None
    assert ended(refused * 4) is None


@given(rows=st.lists(st.sets(st.sampled_from(["a", "b"])), max_size=150))
def test_it_equals_a_count_over_the_last_rows(rows: list[set[str]]) -> None:
    breaker = Breaker(SMALL)
    expected = None
    for end in range(1, len(rows) + 1):
        breaker.record(rows[end - 1])
        window = rows[max(0, end - 50) : end]
        over = [kind for kind in "ab" if sum(kind in row for row in window) > 0.2 * max(len(window), 20)]
        expected = expected or (min(over) if over else None)
        assert breaker.tripped == expected


@pytest.mark.parametrize("bad", [{"max_error_share": 0.0}, {"max_error_share": 1.5}, {"min_rows": 0}])
def test_a_senseless_limit_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"max_error_share|min_rows"):
        BreakerConfig(**bad)  # type: ignore[arg-type]
