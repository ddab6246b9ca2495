"""Stage `tag_audio` against the plain model of transformers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import ASTFeatureExtractor, ASTForAudioClassification

from actors.tag_audio import AstTagger, TagAudioConfig, TagAudioStage
from models.tiny_ast import LABELS
from records.media import AUDIO_RATE_HZ, Audio
from records.outcomes import AudioTags, Note
from tests.actors.rows import make_row
from tests.conftest import TinyModels
from tests.sounds import babble, noise, silence, to_audio, tone

pytestmark = pytest.mark.engine

Floats = npt.NDArray[np.float32]
WINDOW = 400 + 160 * 1023


@pytest.fixture(scope="module")
def config(tiny_models: TinyModels) -> TagAudioConfig:
    return TagAudioConfig(model=str(tiny_models("ast")), device="cpu", top_k=len(LABELS), batch_windows=3)


@pytest.fixture(scope="module")
def tagger(config: TagAudioConfig) -> AstTagger:
    return AstTagger(config)


def reference(folder: str, windows: list[Audio]) -> Floats:
    """(L,) the highest score of each label over the windows, each alone through transformers."""
    model = ASTForAudioClassification.from_pretrained(folder).eval()
    extractor = ASTFeatureExtractor.from_pretrained(folder)
    scores = []
    for window in windows:
        inputs = extractor(window.to_float(), sampling_rate=AUDIO_RATE_HZ, return_tensors="pt")
        with torch.no_grad():
            scores.append(torch.sigmoid(model(**inputs).logits)[0].numpy())
    highest: Floats = np.max(np.stack(scores), axis=0)
    return highest


def tag(stage: TagAudioStage, *clips: Audio | None) -> list[AudioTags]:
    outcomes = stage([make_row(str(index), audio=clip) for index, clip in enumerate(clips)])
    assert all(isinstance(outcome, AudioTags) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, AudioTags)]


def test_scores_equal_the_plain_model_window_by_window(config: TagAudioConfig, tagger: AstTagger) -> None:
    short, long = to_audio(tone(4), noise(2)), to_audio(babble(9), tone(9, 900), noise(7, 1))
    exact = Audio(samples=to_audio(babble(11, 3)).samples[:WINDOW])
    samples = long.samples
    windows = {
        "short": [short],
        "exact": [exact],
        "long": [Audio(samples=w) for w in (samples[:WINDOW], samples[WINDOW : 2 * WINDOW], samples[-WINDOW:])],
    }
    assert 2 * WINDOW < len(samples) < 3 * WINDOW
    got = tag(TagAudioStage(config, tagger=tagger), short, exact, long)
    for tags, wanted_windows in zip(got, windows.values(), strict=True):
        wanted = reference(config.model, wanted_windows)
        assert tags.windows == len(wanted_windows)
        assert list(tags.scores) == sorted(tags.scores, reverse=True)
        by_label = dict(zip(tags.labels, tags.scores, strict=True))
        np.testing.assert_allclose([by_label[label] for label in LABELS], wanted, atol=1e-6)


def test_the_parity_test_sees_different_sounds(config: TagAudioConfig, tagger: AstTagger) -> None:
    first, second, third = tag(TagAudioStage(config, tagger=tagger), to_audio(tone(5)), to_audio(noise(5)), None)
    scores = [dict(zip(tags.labels, tags.scores, strict=True)) for tags in (first, second)]
    assert max(abs(scores[0][label] - scores[1][label]) for label in LABELS) > 0.05
    assert third == AudioTags(labels=(), scores=(), note=Note.NO_AUDIO)


def test_top_k_and_min_score_keep_the_highest(config: TagAudioConfig, tagger: AstTagger) -> None:
    clip = to_audio(babble(6))
    everything = tag(TagAudioStage(config, tagger=tagger), clip)[0]
    three = tag(TagAudioStage(replace(config, top_k=3), tagger=tagger), clip)[0]
    assert (three.labels, three.scores) == (everything.labels[:3], everything.scores[:3])
    limit = everything.scores[4]
    assert tag(TagAudioStage(replace(config, min_score=limit), tagger=tagger), clip)[0].labels == everything.labels[:5]


def test_silence_and_no_track_say_so(config: TagAudioConfig, tagger: AstTagger) -> None:
    clips = (None, to_audio(silence(0)), to_audio(silence(3)), to_audio(tone(0.01)))
    notes = [tags.note for tags in tag(TagAudioStage(config, tagger=tagger), *clips)]
    assert notes == [Note.NO_AUDIO, Note.NO_AUDIO, Note.SILENT, Note.NONE]


class CountingTagger:
    """Scores each window with its loudest sample and remembers how many came at once."""

    labels: tuple[str, ...] = ("loud",)
    window_samples = 1_000

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, windows: Sequence[Floats]) -> Floats:
        self.calls.append(len(windows))
        return np.array([[np.max(window)] for window in windows], np.float32)


def test_windows_of_different_rows_share_calls_and_the_maximum_wins() -> None:
    tagger = CountingTagger()
    stage = TagAudioStage(TagAudioConfig(batch_windows=4), tagger=tagger)
    loud = [np.zeros(length, np.int16) for length in (2_500, 999, 3_000)]
    loud[0][2_499], loud[1][0], loud[2][1_500] = 8_192, 16_384, 24_576
    tags = tag(stage, *(Audio(samples=samples) for samples in loud))
    assert [t.scores for t in tags] == [(0.25,), (0.5,), (0.75,)]
    assert [t.windows for t in tags] == [3, 1, 3]
    assert tagger.calls == [4, 3]


@pytest.mark.parametrize(
    "wrong",
    [{"dtype": "int8"}, {"top_k": 0}, {"min_score": 1.0}, {"batch_windows": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_config_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="tag_audio"):
        TagAudioConfig(**wrong)  # type: ignore[arg-type]  # wrong on purpose
