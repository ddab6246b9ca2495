"""Every record survives the way through Parquet: nothing changes, nothing is dropped, errors stay errors."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.errors import Failure, FailureKind
from records.outcomes import (
    STAGES,
    AudioDescription,
    AudioTags,
    Caption,
    Embedding,
    MediaFacts,
    Note,
    Outcome,
    Segment,
    Transcript,
    View,
)
from records.schemas import (
    RECORD_TYPES,
    JournalRow,
    StageRow,
    VectorDtype,
    journal_rows,
    journal_table,
    stage_rows,
    stage_table,
)
from tests.records.as_dict import to_dict

FAILURE = Failure(stage="decode", kind=FailureKind.CORRUPT, message="moov atom not found", attempts=2)


def view(seed: int) -> View:
    vector = np.random.default_rng(seed).standard_normal(8).astype(np.float16)
    return View(document=f"document {seed}", vector=vector, chunks=1)


SAMPLES: dict[str, Outcome] = {
    "decode": MediaFacts(
        duration_seconds=3.5,
        has_video=True,
        has_audio=True,
        width=640,
        rotation_degrees=90,
        frame_times_seconds=(0.0, 0.5),
        audio_failure=FAILURE,
    ),
    "caption": Caption(text="ein Hund läuft 🐕", finish_reason="length", prompt_tokens=7, output_tokens=9),
    "transcribe": Transcript(
        text="hello",
        language="en",
        segments=(Segment(start_seconds=0.0, end_seconds=1.5, text="hello", avg_logprob=-0.5, no_speech_prob=0.1),),
    ),
    "describe_audio": AudioDescription(text="", note=Note.SILENT),
    "tag_audio": AudioTags(labels=("Speech", "Music"), scores=(0.9, 0.1), windows=2),
    "embed": Embedding(
        video=view(1), audio=View(document="", vector=None, missing="no_audio"), metadata=view(2), all=view(3)
    ),
}


def plain(outcome: Outcome | Failure) -> str:
    return repr(to_dict(outcome))


def test_every_stage_has_a_record_and_a_sample() -> None:
    assert tuple(RECORD_TYPES) == STAGES == tuple(SAMPLES)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("vector_dtype", ["float16", "float32"])
def test_a_stage_table_survives_parquet(stage: str, vector_dtype: VectorDtype) -> None:
    rows = [
        StageRow(video_id="a/b", version=1, generation=0, outcome=SAMPLES[stage]),
        StageRow(video_id="c", version=2, generation=3, outcome=FAILURE),
    ]
    buffer = io.BytesIO()
    pq.write_table(stage_table(stage, rows, vector_dtype), buffer)
    back = stage_rows(stage, pq.read_table(buffer))
    assert [(row.key, row.generation) for row in back] == [(row.key, row.generation) for row in rows]
    if stage == "embed":
        first, back_first = SAMPLES["embed"], back[0].outcome
        assert isinstance(first, Embedding)
        assert isinstance(back_first, Embedding)
        assert first.video.vector is not None
        assert back_first.video.vector is not None
        stored = stage_table(stage, rows, vector_dtype).schema.field("video").type.field("vector").type
        assert str(stored.value_type) == {"float16": "halffloat", "float32": "float"}[vector_dtype]
        np.testing.assert_array_equal(back_first.video.vector, first.video.vector)
        assert back_first.audio.vector is None
        assert back_first.audio.missing == "no_audio"
    else:
        assert plain(back[0].outcome) == plain(SAMPLES[stage])
    assert back[1].outcome == FAILURE


def test_a_journal_survives_parquet() -> None:
    row = JournalRow(
        shard_id="00000003",
        position=7,
        video_id="x",
        version=4,
        fingerprints={"caption": "ab", "decode": "cd"},
        generations={"caption": 2, "decode": 0},
        outcomes={"caption": SAMPLES["caption"], "decode": FAILURE},
    )
    assert journal_rows(journal_table([row])) == [row]


@given(text=st.text(), probability=st.floats(allow_nan=False), times=st.lists(st.floats(0, 1e6), max_size=4))
def test_any_text_and_number_survives(text: str, probability: float, times: list[float]) -> None:
    segments = tuple(
        Segment(start_seconds=t, end_seconds=t + 1, text=text, avg_logprob=probability, no_speech_prob=0.0)
        for t in times
    )
    record = Transcript(text=text, language_probability=probability, segments=segments)
    row = StageRow(video_id=text, version=1, generation=0, outcome=record)
    assert stage_rows("transcribe", stage_table("transcribe", [row])) == [row]
