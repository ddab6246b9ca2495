"""Pools shrink to what they need over minutes, never for a moment, and come back where they need more again."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.pool_sizes import GROW_SECONDS, START_FACTOR, PoolLoad, PoolSizes

WINDOW = 100.0
DECODE = PoolLoad(stage="decode", pending=0, running=2, active=2, blocks=4, calls=1, least=1, began=2)
CAPTION = PoolLoad(stage="caption", pending=0, running=4, active=1, blocks=1, calls=4, least=1, began=4)


@dataclass
class Told:
    """Tells of pools each second for a while, and what was said then."""

    now: float = 0.0
    sizes: PoolSizes = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = PoolSizes(WINDOW, clock=lambda: self.now)

    def seconds(self, seconds: float, *pools: PoolLoad) -> list[dict[str, int]]:
        said = []
        for _ in range(round(seconds)):
            self.now += 1.0
            said.append(self.sizes.decide(pools))
        return said


def test_workers_without_work_for_a_whole_window_go_and_no_sooner() -> None:
    told = Told()
    assert not any(told.seconds(WINDOW, DECODE, CAPTION))
    assert told.seconds(2, DECODE, CAPTION) == [{"caption": -3}] * 2, "said until they are gone"
    assert not any(told.seconds(5 * WINDOW, DECODE, replace(CAPTION, running=1)))


def test_a_window_is_some_times_as_long_as_the_first_worker_took_to_be_there() -> None:
    told, loads = Told(), replace(CAPTION, pending=4, running=0, active=0, blocks=0)
    told.seconds(60, DECODE, loads)
    assert not any(told.seconds(60 * START_FACTOR - 1, DECODE, CAPTION))
    assert any(told.seconds(3, DECODE, CAPTION))


def test_no_worker_goes_before_every_stage_has_one_or_while_more_come() -> None:
    told, late = Told(), replace(CAPTION, stage="embed", pending=1, running=0, active=0, blocks=0)
    assert not any(told.seconds(5 * WINDOW, DECODE, CAPTION, late))
    there = replace(late, pending=0, running=1)
    told = Told()
    told.seconds(WINDOW - 2, DECODE, CAPTION, there)
    grown = replace(DECODE, running=3)
    assert not any(told.seconds(WINDOW, grown, CAPTION, there)), "what the third decoder feeds is not measured yet"
    assert any(told.seconds(2, grown, CAPTION, there))


def test_where_all_that_are_there_are_busy_those_to_come_are_waited_for() -> None:
    told, one = Told(), replace(CAPTION, pending=3, running=1, active=1, blocks=5)
    assert not any(told.seconds(5 * WINDOW, DECODE, one))
    assert {"caption": -3} in told.seconds(WINDOW + 1, DECODE, replace(one, active=0, blocks=0))


def shrunk(told: Told) -> PoolLoad:
    """The captioner after it was let shrink to one worker."""
    assert told.seconds(WINDOW + 1, DECODE, CAPTION)[-1] == {"caption": -3}
    left = replace(CAPTION, running=1)
    assert not any(told.seconds(2, DECODE, left))
    return left


def test_a_pool_that_has_become_too_small_asks_again_and_is_never_made_so_small_while_it_works() -> None:
    told = Told()
    full = replace(shrunk(told), blocks=7)
    said = told.seconds(2 * GROW_SECONDS, DECODE, full)
    assert [one for one in said[:-1] if one] == [{"caption": 3}], "as many as it began with"
    assert not told.sizes.holds("caption")
    assert not any(told.seconds(WINDOW, DECODE, replace(full, pending=3, blocks=8)))
    again = replace(CAPTION, active=4, blocks=4)
    assert not any(told.seconds(WINDOW - 1, DECODE, again))
    assert told.seconds(2, DECODE, again)[-1] == {"caption": -2}, "two, although one has enough calls for the blocks"
    idle = replace(CAPTION, running=2, active=0, blocks=0)
    assert {"caption": -1} in told.seconds(2 * WINDOW, DECODE, idle), "with nothing to do one is enough"


def test_a_pool_that_is_full_for_moments_stays_as_it_is() -> None:
    told = Told()
    left = shrunk(told)
    assert told.sizes.holds("caption")
    assert not told.sizes.holds("decode")
    for _ in range(20):
        assert not any(told.seconds(0.7 * GROW_SECONDS, DECODE, replace(left, blocks=8)))
        assert not any(told.seconds(0.3 * GROW_SECONDS, DECODE, left))
    assert told.sizes.holds("caption")


@given(
    running=st.integers(0, 6), pending=st.integers(0, 6), calls=st.integers(1, 4), least=st.integers(1, 3),
    busy=st.lists(st.floats(0, 1), min_size=1, max_size=6),
)  # fmt: skip
def test_whatever_is_said_of_a_pool_it_keeps_its_least_and_whoever_is_busy(
    running: int, pending: int, calls: int, least: int, busy: list[float]
) -> None:
    told = Told()
    told.seconds(1, DECODE, replace(CAPTION, running=1))
    for share in busy:
        active = round(share * running)
        pool = PoolLoad(
            stage="caption", pending=pending, running=running, active=active, blocks=active * calls, calls=calls,
            least=least, began=running + pending + least,
        )  # fmt: skip
        for said in told.seconds(WINDOW, DECODE, pool):
            change = said.get("caption", 0)
            assert change >= 0 or pool.size + change >= least
            if all(one > 0.8 for one in busy) and running:
                assert change == 0
