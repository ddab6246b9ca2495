"""The flow table brings every field and every byte of media back, also in slices and when columns are emptied."""

import numpy as np
import pyarrow as pa

from records.errors import Failure, FailureKind
from records.flow import (
    FLOW_SCHEMA,
    FlowRow,
    flow_rows,
    flow_table,
    header,
    read_audio,
    read_frames,
    spent_seconds,
    with_media,
    with_outcomes,
    with_spent,
    without_media,
)
from records.items import CatalogItem, Metadata
from records.media import Audio, Frames
from records.outcomes import Caption


def row(video_id: str) -> FlowRow:
    return FlowRow(
        shard_id="00000001",
        position=0,
        issued_rows=2,
        item=CatalogItem(
            video_id=video_id, version=3, uri=f"s3://b/{video_id}", size_bytes=9, etag="e", byte_offset=512
        ),
        metadata=Metadata(title="a title", extra={"views": "12"}),
        pending=("decode", "caption"),
        outcomes={"caption": Caption(text="seen")},
    )


def clip(seed: int) -> Frames:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 28, 56, 3), dtype=np.uint8)
    times = (0.0, 0.5, 1.0, 1.5)
    return Frames(
        pixels=pixels,
        times_seconds=times,
        indices=(0, 12, 24, 36),
        source_fps=24.0,
        source_frames=48,
        duration_seconds=2.0,
    )


def test_lines_come_back_as_they_were() -> None:
    rows = [header("00000001", 2), row("a"), row("b")]
    table = flow_table(rows)
    assert table.schema == FLOW_SCHEMA
    assert flow_rows(table) == rows
    assert flow_rows(table)[0].is_header


def test_media_come_back_without_a_copy_and_from_a_slice() -> None:
    first, second = clip(1), clip(2)
    sound = Audio(samples=np.arange(-50, 50, dtype=np.int16))
    table = with_media(flow_table([row("a"), row("b"), row("c")]), [first, None, second], [None, sound, None])
    assert table.schema == FLOW_SCHEMA
    part = table.slice(1)
    assert read_frames(part, 0) is None
    back = read_frames(part, 1)
    assert back is not None
    np.testing.assert_array_equal(back.pixels, second.pixels)
    assert not back.pixels.flags.owndata
    assert (back.times_seconds, back.indices, back.source_fps, back.source_frames, back.duration_seconds) == (
        second.times_seconds,
        second.indices,
        24.0,
        48,
        2.0,
    )
    heard = read_audio(part, 0)
    assert heard is not None
    np.testing.assert_array_equal(heard.samples, sound.samples)
    emptied = without_media(table, frames=True, audio=False)
    assert read_frames(emptied, 0) is None
    assert read_audio(emptied, 1) is not None
    assert emptied.schema == FLOW_SCHEMA


def test_outcomes_replace_a_column_and_leave_the_others() -> None:
    failure = Failure(stage="caption", kind=FailureKind.TIMEOUT, message="60 s")
    table = with_outcomes(flow_table([row("a"), row("b"), row("c")]), "caption", [failure, None, Caption(text="new")])
    got = [line.outcomes.get("caption") for line in flow_rows(table, ["caption"])]
    assert got == [failure, None, Caption(text="new")]


def test_busy_seconds_add_up_over_blocks() -> None:
    table = with_spent(with_spent(flow_table([row("a"), row("b")]), "caption", 1.5), "embed", 0.25)
    assert spent_seconds(pa.concat_tables([table, table])) == {"caption": 3.0, "embed": 0.5}
