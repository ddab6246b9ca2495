"""Columns hold what Arrow itself makes of the same records as dictionaries, and give the records back."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.arrow import arrow_type
from records.columns import decode, encode, encode_records
from records.errors import Failure, FailureKind
from records.outcomes import AudioTags, MediaFacts, Note, Segment, Transcript, View
from records.schemas import decode_outcomes, encode_outcomes
from tests.records.as_dict import to_dict

texts = st.text(max_size=5)
numbers = st.floats(allow_nan=False)
segments = st.builds(
    Segment, start_seconds=numbers, end_seconds=numbers, text=texts, avg_logprob=numbers, no_speech_prob=numbers
)
failures = st.builds(Failure, stage=texts, kind=st.sampled_from(FailureKind), message=texts, attempts=st.integers(0, 9))
records = st.one_of(
    st.lists(
        st.none()
        | st.builds(
            Transcript, text=texts, segments=st.lists(segments, max_size=3).map(tuple), note=st.sampled_from(Note)
        )
    ),
    st.lists(st.none() | st.builds(AudioTags, labels=st.lists(texts, max_size=3).map(tuple), scores=st.just((0.5,)))),
    st.lists(
        st.none()
        | st.builds(
            MediaFacts,
            duration_seconds=numbers,
            has_video=st.booleans(),
            has_audio=st.booleans(),
            frame_times_seconds=st.lists(numbers, max_size=3).map(tuple),
            audio_failure=st.none() | failures,
        )
    ),
)


@settings(deadline=None)
@given(rows=records, data=st.data())
def test_columns_equal_those_that_arrow_makes_and_give_the_records_back(rows: list[Any], data: st.DataObject) -> None:
    present = [row for row in rows if row is not None]
    if not present:
        return
    record = type(present[0])
    array: Any = encode_records(rows, record, pa.float32())
    plain: pa.Array[Any] = pa.array(
        [None if row is None else to_dict(row) for row in rows], type=arrow_type(record, pa.float32())
    )
    assert plain.equals(array)
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    assert decode(array, record) == rows
    assert decode(array.slice(start, stop - start), record) == rows[start:stop]
    assert decode(pa.chunked_array([array, array.slice(start)]), record) == [*rows, *rows[start:]]


@pytest.mark.parametrize("dtype", [pa.float16(), pa.float32()])
def test_vectors_keep_their_numbers_and_their_own_memory(dtype: pa.DataType) -> None:
    vector = np.random.default_rng(1).standard_normal(6).astype(np.float16)
    views = [View(document="a", vector=vector), View(document="", vector=None, missing="silent"), None]
    array = encode_records(views, View, dtype)
    first, second, third = decode(array, View)
    assert str(array.type.field("vector").type.value_type) == str(dtype)
    assert (first.vector.dtype, first.vector.base) == (np.float32, None)
    np.testing.assert_array_equal(first.vector, vector)
    assert (second.vector, second.missing, third) == (None, "silent", None)


def test_no_vector_at_all_is_a_column_of_nulls() -> None:
    array = encode([None, None], View.__annotations__["vector"], pa.float32())
    assert (array.null_count, str(array.type)) == (2, "list<item: float>")


def test_outcomes_are_results_errors_or_nothing() -> None:
    failure = Failure(stage="decode", kind=FailureKind.TIMEOUT, message="x")
    outcomes = [Transcript(text="a"), None, failure]
    array = encode_outcomes("transcribe", outcomes)
    assert [scalar.is_valid for scalar in array] == [True, False, True]
    assert decode_outcomes("transcribe", array) == outcomes
    assert decode_outcomes("transcribe", array.slice(1, 2)) == outcomes[1:]
    assert decode_outcomes("transcribe", pa.nulls(2, array.type)) == [None, None]
