"""One entry a stage for the contract test: its real engine, rows it can do and one that it cannot.

An engine fails on cue because a thin wrapper around it raises where a row is marked, or because the row is truly bad.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import pytest
from faster_whisper import WhisperModel

from actors.caption import CaptionStage
from actors.decode import DecodeStage
from actors.decode_config import DecodeConfig
from actors.describe_audio import DescribeAudioStage
from actors.embed import EmbedConfig, EmbedStage, SentenceEncoder
from actors.tag_audio import AstTagger, TagAudioConfig, TagAudioStage
from actors.transcribe import TranscribeConfig, TranscribeStage
from actors.vllm_config import SamplingConfig
from actors.vllm_engine import Engine, EngineRequest, Generated
from records.errors import Failure, FatalError
from records.items import CatalogItem, Row
from records.outcomes import AudioDescription, AudioTags, Caption, Embedding, MediaFacts, Outcome, Transcript
from storage.fetched import FetchedMedia
from tests.actors.clips import moving_noise, tone
from tests.actors.rows import make_row
from tests.clips import clip_bytes
from tests.conftest import TinyModels
from tests.sounds import babble, to_audio

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
    complaint: str = "^RuntimeError: the engine chokes on this input$"
    """What the bad row's failure says."""


class SharedEngine:
    """vLLM's engine, which other tests use too: it stays when the stage is closed, and is dead when switched so."""

    def __init__(self, engine: Engine, switch: Switch) -> None:
        self.engine = engine
        self.switch = switch

    def generate_many(
        self, requests: Sequence[EngineRequest], sampling: SamplingConfig, timeout_seconds: float
    ) -> list[Generated | Failure]:
        if self.switch.dead:
            raise FatalError("the engine is dead")
        return self.engine.generate_many(requests, sampling, timeout_seconds)

    def close(self) -> None:
        """Leaves the engine to those who share it."""


class Decoding:
    """The decode stage, called as the others are: all streams wanted, the facts for an outcome."""

    def __init__(self, stage: DecodeStage) -> None:
        self.stage = stage

    def __call__(self, rows: Sequence[Row]) -> list[MediaFacts | Failure]:
        wanted = [True] * len(rows)
        return [one if isinstance(one, Failure) else one.facts for one in self.stage(rows, wanted, wanted)]

    def close(self) -> None:
        self.stage.close()


def decode_case(request: pytest.FixtureRequest) -> Case:
    """The bad file is no video; an error of the fetcher's that is nobody's fault in particular must come out."""
    switch = Switch()
    files = {f"good{index}": clip_bytes(seconds=0.5 + 0.25 * index) for index in range(GOOD_ROWS)}
    files["bad"] = b"this is no video" * 100

    def fetch(item: CatalogItem) -> FetchedMedia:
        if switch.dead:
            raise FatalError("the engine is dead")
        return FetchedMedia.of_bytes(files[item.video_id])

    return Case(
        stage=Decoding(DecodeStage(DecodeConfig(max_frames=4), fetch)),
        outcome=MediaFacts,
        good=[make_row(f"good{index}") for index in range(GOOD_ROWS)],
        bad=make_row("bad"),
        switch=switch,
        complaint="Invalid data found",
    )


def caption_case(request: pytest.FixtureRequest) -> Case:
    """The bad row's frames are too narrow for the model's processor."""
    real: CaptionStage = request.getfixturevalue("qwen2_5_vl")
    switch = Switch()
    ribbon = dataclasses.replace(moving_noise(3), pixels=np.zeros((8, 2, 1000, 3), dtype=np.uint8))
    return Case(
        stage=CaptionStage(real._config, engine=SharedEngine(real._engine, switch)),
        outcome=Caption,
        good=[make_row(f"good{seed}", frames=moving_noise(seed)) for seed in range(GOOD_ROWS)],
        bad=make_row("bad", frames=ribbon),
        switch=switch,
        complaint="aspect ratio",
    )


def describe_audio_case(request: pytest.FixtureRequest) -> Case:
    """The bad row's sound is handed on as what no processor takes."""
    real: DescribeAudioStage = request.getfixturevalue("qwen2_audio")
    switch = Switch()

    class Garbling(SharedEngine):
        def generate_many(
            self, requests: Sequence[EngineRequest], sampling: SamplingConfig, timeout_seconds: float
        ) -> list[Generated | Failure]:
            return super().generate_many([self.garbled(one) for one in requests], sampling, timeout_seconds)

        def garbled(self, request: EngineRequest) -> EngineRequest:
            ((sound, rate),) = cast(Any, request.media["audio"])
            return dataclasses.replace(request, media={"audio": [(sound[:0], rate)]}) if poisoned(sound) else request

    audio = tone(2)
    audio.samples[100] = POISON
    return Case(
        stage=DescribeAudioStage(real._config, engine=Garbling(real._engine, switch)),
        outcome=AudioDescription,
        good=[make_row(f"good{index}", audio=tone(2 + index, hertz=220.0 * (1 + index))) for index in range(GOOD_ROWS)],
        bad=make_row("bad", audio=audio),
        switch=switch,
        complaint="the model's processor refused it",
    )


def listening_rows() -> tuple[list[Row], Row]:
    """Rows of different voices, and one whose loudest sample marks it."""
    good = [make_row(f"good{seed}", audio=to_audio(babble(3 + seed, seed))) for seed in range(GOOD_ROWS)]
    audio = to_audio(babble(4, 99) / np.float32(2))
    audio.samples[int(np.argmax(np.abs(audio.samples)))] = POISON
    return good, make_row("bad", audio=audio)


def poisoned(sound: Floats) -> bool:
    """Whether the marked sample is in the sound."""
    return bool((sound == np.float32(POISON / 32768)).any())


def transcribe_case(request: pytest.FixtureRequest) -> Case:
    """The marked clip chokes where its features are made, as a sound of an odd shape would."""
    tiny_models: TinyModels = request.getfixturevalue("tiny_models")
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


def tag_audio_case(request: pytest.FixtureRequest) -> Case:
    """The marked clip chokes in the model."""
    tiny_models: TinyModels = request.getfixturevalue("tiny_models")
    config = TagAudioConfig(model=str(tiny_models("ast")), device="cpu", batch_windows=4)
    switch = Switch()

    class Tagger(AstTagger):
        def __call__(self, windows: Sequence[Floats]) -> Floats:
            switch.check(any(poisoned(window) for window in windows))
            return super().__call__(windows)

    good, bad = listening_rows()
    stage = TagAudioStage(config, tagger=Tagger(config))
    return Case(stage=stage, outcome=AudioTags, good=good, bad=bad, switch=switch)


def embed_case(request: pytest.FixtureRequest) -> Case:
    """The marked caption chokes in the encoder."""
    tiny_models: TinyModels = request.getfixturevalue("tiny_models")
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
    pytest.param(decode_case, id="decode"),
    pytest.param(caption_case, id="caption"),
    pytest.param(transcribe_case, id="transcribe"),
    pytest.param(describe_audio_case, id="describe_audio"),
    pytest.param(tag_audio_case, id="tag_audio"),
    pytest.param(embed_case, id="embed"),
]
"""One line a stage."""
