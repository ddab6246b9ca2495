"""What every stage promises the pipeline, whichever engine is behind it. A stage is one entry in `STAGES`.

A stage's own engine runs for real; it fails on cue because a thin wrapper around it raises where a row is marked.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest
from faster_whisper import WhisperModel

from actors.embed import EmbedConfig, EmbedStage, SentenceEncoder
from actors.tag_audio import AstTagger, TagAudioConfig, TagAudioStage
from actors.transcribe import TranscribeConfig, TranscribeStage
from records.errors import Failure, FatalError
from records.items import Row
from records.outcomes import AudioTags, Caption, Embedding, Outcome, Transcript
from tests.actors.rows import make_row
from tests.conftest import TinyModels
from tests.sounds import babble, to_audio

pytestmark = pytest.mark.engine

GOOD_ROWS = 5
POISON = 12_345
"""Loudest sample of the bad row of a stage that listens."""
Floats = npt.NDArray[np.float32]


class Switch:
    """Makes an engine raise: on the marked input alone, or on everything."""

    def __init__(self) -> None:
        self.dead = False

    def check(self, bad: bool) -> None:
        """Raises where the engine is dead or the input is bad."""
        if self.dead or bad:
            raise RuntimeError("the engine is dead" if self.dead else "the engine chokes on this input")


class AnyStage(Protocol):
    """A stage of any outcome; `Stage[Outcome]` would not do, since lists are invariant."""

    def __call__(self, rows: Sequence[Row]) -> Sequence[Outcome | Failure]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Case:
    """One stage under test."""

    stage: AnyStage
    outcome: type[Outcome]
    good: Sequence[Row]
    bad: Row
    switch: Switch


def listening_rows() -> tuple[list[Row], Row]:
    """Rows of different voices, and one whose loudest sample marks it."""
    good = [make_row(f"good{seed}", audio=to_audio(babble(3 + seed, seed))) for seed in range(GOOD_ROWS)]
    audio = to_audio(babble(4, 99) / np.float32(2))
    audio.samples[int(np.argmax(np.abs(audio.samples)))] = POISON
    return good, make_row("bad", audio=audio)


def poisoned(sound: Floats) -> bool:
    """Whether the marked sample is in the sound."""
    return bool((sound == np.float32(POISON / 32768)).any())


def transcribe_case(tiny_models: TinyModels) -> Case:
    """The marked clip chokes where its features are made, as a sound of an odd shape would."""
    config = TranscribeConfig(
        model=str(tiny_models("whisper")), device="cpu", compute_type="float32", temperatures=(0.0,), batch_chunks=4
    )
    switch = Switch()
    whisper: Any = WhisperModel(config.model, device="cpu", compute_type="float32", cpu_threads=1)
    real_extractor, real_encode = whisper.feature_extractor, whisper.encode

    class Extractor:
        def __call__(self, sound: Floats) -> Floats:
            switch.check(poisoned(sound))
            features: Floats = real_extractor(sound)
            return features

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - stands for any attribute of an untyped library
            return getattr(real_extractor, name)

    def encode(features: Floats) -> object:
        switch.check(False)
        return real_encode(features)

    model: Any = copy.copy(whisper)
    model.feature_extractor, model.encode = Extractor(), encode
    good, bad = listening_rows()
    return Case(stage=TranscribeStage(config, model=model), outcome=Transcript, good=good, bad=bad, switch=switch)


def tag_audio_case(tiny_models: TinyModels) -> Case:
    """The marked clip chokes in the model."""
    config = TagAudioConfig(model=str(tiny_models("ast")), device="cpu", batch_windows=4)
    switch = Switch()

    class Tagger(AstTagger):
        def __call__(self, windows: Sequence[Floats]) -> Floats:
            switch.check(any(poisoned(window) for window in windows))
            return super().__call__(windows)

    good, bad = listening_rows()
    stage = TagAudioStage(config, tagger=Tagger(config))
    return Case(stage=stage, outcome=AudioTags, good=good, bad=bad, switch=switch)


def embed_case(tiny_models: TinyModels) -> Case:
    """The marked caption chokes in the encoder."""
    config = EmbedConfig(model=str(tiny_models("bert")), device="cpu")
    switch = Switch()

    class Encoder(SentenceEncoder):
        def encode(self, texts: Sequence[str]) -> Floats:
            switch.check(any("poison" in text for text in texts))
            return super().encode(texts)

    def row(video_id: str, text: str) -> Row:
        return make_row(video_id, title=video_id, outcomes={"caption": Caption(text=text)})

    return Case(
        stage=EmbedStage(config, reads=("caption",), encoder=Encoder(config)),
        outcome=Embedding,
        good=[row(f"good{index}", f"a clip of {'dogs ' * index}and cats") for index in range(GOOD_ROWS)],
        bad=row("bad", "poison"),
        switch=switch,
    )


STAGES: list[Any] = [
    pytest.param(transcribe_case, id="transcribe"),
    pytest.param(tag_audio_case, id="tag_audio"),
    pytest.param(embed_case, id="embed"),
]
"""One line a stage; an engine that takes a start of its own adds `marks=pytest.mark.engine`."""


@pytest.fixture(scope="module", params=STAGES)
def case(request: pytest.FixtureRequest, tiny_models: TinyModels) -> Case:
    make: Callable[[TinyModels], Case] = request.param
    return make(tiny_models)


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
    assert failure.message == "RuntimeError: the engine chokes on this input"
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
