"""One bad item costs itself; an engine that fails on anything is dead."""

from collections.abc import Sequence

import pytest

from actors.isolate import failure_from, isolate
from records.errors import BadItemError, FailureKind, FatalError, TransientError


class Engine:
    """Doubles numbers; what it is told to choke on, it raises over, together with all that came along."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad
        self.calls: list[list[int]] = []
        self.probes = 0

    def work(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        for item in items:
            if item in self.bad:
                raise ValueError(f"{item} is too odd")
        return [2 * item for item in items]

    def probe(self) -> None:
        self.probes += 1


def test_where_all_goes_well_one_call_does_all() -> None:
    engine = Engine()
    assert isolate([1, 2, 3], engine.work, engine.probe) == [2, 4, 6]
    assert (engine.calls, engine.probes) == ([[1, 2, 3]], 0)
    assert isolate([], engine.work, engine.probe) == []
    assert len(engine.calls) == 1


def test_a_bad_item_costs_itself_alone_and_the_order_stays() -> None:
    engine = Engine(2, 4)
    outcomes = isolate([1, 2, 3, 4], engine.work, engine.probe)
    assert [str(one) for one in outcomes] == ["2", "2 is too odd", "6", "4 is too odd"]
    assert engine.probes == 2, "after each that failed alone"


def test_an_engine_that_fails_on_blank_input_too_is_dead() -> None:
    def probe() -> None:
        raise RuntimeError("CUDA error\nwith much more")

    with pytest.raises(FatalError, match=r"fails on blank input too: RuntimeError: CUDA error$"):
        isolate([1, 2], Engine(1).work, probe)


def test_a_fatal_error_and_a_wrong_number_of_outcomes_are_fatal() -> None:
    def dead(items: Sequence[int]) -> list[int]:
        raise FatalError("gone")

    engine = Engine()
    with pytest.raises(FatalError, match="gone"):
        isolate([1, 2], dead, engine.probe)
    with pytest.raises(FatalError, match="gave 1 outcomes for 2 items"):
        isolate([1, 2], lambda items: [0], engine.probe)


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadItemError(FailureKind.TOO_LONG, "an hour"), FailureKind.TOO_LONG),
        (TransientError(FailureKind.TIMEOUT, "slow"), FailureKind.TIMEOUT),
        (MemoryError("no more"), FailureKind.OUT_OF_MEMORY),
        (OutOfMemoryError("no more"), FailureKind.OUT_OF_MEMORY),
        (KeyError("shape"), FailureKind.ENGINE_ERROR),
    ],
)
def test_what_an_item_raised_names_its_kind(error: Exception, kind: FailureKind) -> None:
    failure = failure_from("caption", error)
    assert (failure.stage, failure.kind) == ("caption", kind)
    assert failure.message.startswith(type(error).__name__)
