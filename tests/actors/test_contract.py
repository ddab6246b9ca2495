"""What every stage promises the pipeline, whichever engine is behind it."""

import re
from collections.abc import Callable, Iterator, Sequence

import pytest

from records.errors import Failure, FatalError
from records.outcomes import AudioTags, Embedding, Outcome, Transcript
from tests.actors.contract_cases import GOOD_ROWS, STAGES, Case

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", params=STAGES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    make: Callable[[pytest.FixtureRequest], Case] = request.param
    case = make(request)
    yield case
    case.stage.close()


def assert_equal(got: Sequence[Outcome | Failure], wanted: Sequence[Outcome | Failure]) -> None:
    """Outcome for outcome, numbers to within 1e-3 (vectors are float16 here)."""
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert type(one) is type(other)
        assert numbers(one) == pytest.approx(numbers(other), abs=1e-3)
        assert words(one) == words(other)


def numbers(outcome: Outcome | Failure) -> list[float]:
    """Every float of an outcome, in a fixed order."""
    match outcome:
        case Embedding():
            views = (outcome.video, outcome.audio, outcome.metadata, outcome.all)
            return [float(x) for view in views if view.vector is not None for x in view.vector]
        case AudioTags(scores=scores):
            return list(scores)
        case Transcript(segments=segments, language_probability=probability):
            times = [time for s in segments for time in (s.start_seconds, s.end_seconds, s.avg_logprob)]
            return [probability, *times]
        case _:
            return []


def words(outcome: Outcome | Failure) -> object:
    """Everything of an outcome that is not a float."""
    match outcome:
        case Embedding():
            views = (outcome.video, outcome.audio, outcome.metadata, outcome.all)
            return [(view.document, view.missing, view.chunks, view.cut) for view in views]
        case AudioTags(labels=labels, windows=windows, note=note):
            return (labels, windows, note)
        case Transcript(text=text, language=language, note=note):
            return (text, language, note)
        case _:
            return outcome


def test_outcomes_come_in_the_order_of_the_rows(case: Case) -> None:
    alone = [outcome for row in case.good for outcome in case.stage([row])]
    assert all(isinstance(outcome, case.outcome) for outcome in alone)
    assert len({repr((words(outcome), numbers(outcome))) for outcome in alone}) == GOOD_ROWS
    assert_equal(case.stage(case.good), alone)
    assert_equal(case.stage(case.good[::-1]), alone[::-1])


def test_no_rows_no_outcomes(case: Case) -> None:
    assert list(case.stage([])) == []


@pytest.mark.parametrize("position", [0, 2, GOOD_ROWS])
def test_a_bad_item_fails_alone(case: Case, position: int) -> None:
    wanted = case.stage(case.good)
    rows = [*case.good[:position], case.bad, *case.good[position:]]
    got = list(case.stage(rows))
    failure = got.pop(position)
    assert isinstance(failure, Failure)
    assert re.search(case.complaint, failure.message)
    assert_equal(got, wanted)


def test_a_retry_changes_nothing(case: Case) -> None:
    assert_equal(case.stage(case.good), case.stage(case.good))


def test_a_dead_engine_raises_a_fatal_error(case: Case) -> None:
    case.switch.dead = True
    try:
        with pytest.raises(FatalError, match="the engine is dead"):
            case.stage(case.good)
    finally:
        case.switch.dead = False


def test_close_twice_is_fine(case: Case) -> None:
    case.stage.close()
    case.stage.close()
