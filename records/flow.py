"""The table that moves between workers: one line an item, with what it still needs and what it has got.

Its columns never change on the way, so any stage may be left out of the graph. Frames and sound are single buffers that
are read back without a copy.
A shard's first line is its header (`position` -1): it holds no item and says how many lines of this shard were issued.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from records.errors import Failure
from records.items import CatalogItem, Metadata
from records.media import Audio, Frames
from records.outcomes import STAGES, Outcome
from records.schemas import decode_outcomes, encode_outcomes, outcome_type

_FRAMES = pa.struct(
    [
        pa.field("pixels", pa.large_binary()),
        pa.field("height", pa.int64()),
        pa.field("width", pa.int64()),
        pa.field("times_seconds", pa.list_(pa.float64())),
        pa.field("indices", pa.list_(pa.int64())),
        pa.field("source_fps", pa.float64()),
        pa.field("source_frames", pa.int64()),
        pa.field("duration_seconds", pa.float64()),
    ]
)
_SPENT = pa.list_(pa.struct([pa.field("stage", pa.string()), pa.field("seconds", pa.float64())]))

_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("shard_id", pa.string()),
    pa.field("position", pa.int64()),
    pa.field("issued_rows", pa.int64()),
    pa.field("video_id", pa.string()),
    pa.field("version", pa.int64()),
    pa.field("uri", pa.string()),
    pa.field("size_bytes", pa.int64()),
    pa.field("etag", pa.string()),
    pa.field("byte_offset", pa.int64()),
    pa.field("row_index", pa.int64()),
    pa.field("column", pa.string()),
    pa.field("title", pa.string()),
    pa.field("extra", pa.map_(pa.string(), pa.string())),
    pa.field("pending", pa.list_(pa.string())),
    pa.field("frames", _FRAMES),
    pa.field("audio", pa.large_binary()),
    *(pa.field(stage, outcome_type(stage)) for stage in STAGES),
    pa.field("spent", _SPENT),
]
FLOW_SCHEMA = pa.schema(_FIELDS)
"""`spent`: seconds that a stage's worker was busy with the call this line came first in."""

_ITEM = ("video_id", "version", "uri", "size_bytes", "etag", "byte_offset", "row_index", "column")
_OWN = ("shard_id", "position", "issued_rows", "pending")

HEADER_POSITION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRow:
    """One line of the flow, without its media."""

    shard_id: str
    position: int
    """Index of the item in its shard, the removed ones counted too, or `HEADER_POSITION`."""
    issued_rows: int
    """How many items of this shard were issued with this line."""
    item: CatalogItem
    metadata: Metadata = field(default_factory=Metadata)
    pending: tuple[str, ...] = ()
    """Stages whose outcome this line is to bring home."""
    outcomes: Mapping[str, Outcome | Failure] = field(default_factory=dict)

    @property
    def is_header(self) -> bool:
        """Whether this line speaks of the shard and not of an item."""
        return self.position == HEADER_POSITION


def header(shard_id: str, issued_rows: int) -> FlowRow:
    """The line that says how many items of a shard are on their way."""
    nobody = CatalogItem(video_id="", version=0, uri="", size_bytes=0, etag="")
    return FlowRow(shard_id=shard_id, position=HEADER_POSITION, issued_rows=issued_rows, item=nobody)


def flow_table(rows: Sequence[FlowRow]) -> pa.Table:
    """The lines as a table of `FLOW_SCHEMA`, without media."""
    values: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in _OWN}
    values |= {name: [getattr(row.item, name) for row in rows] for name in _ITEM}
    values["title"] = [row.metadata.title for row in rows]
    values["extra"] = [list(row.metadata.extra.items()) for row in rows]
    columns: list[pa.Array[Any]] = []
    for column in FLOW_SCHEMA:
        if column.name in STAGES:
            columns.append(encode_outcomes(column.name, [row.outcomes.get(column.name) for row in rows]))
        elif column.name in values:
            columns.append(pa.array(values[column.name], type=column.type))
        else:
            columns.append(pa.nulls(len(rows), column.type))
    return pa.Table.from_arrays(columns, schema=FLOW_SCHEMA)


def flow_rows(table: pa.Table, stages: Sequence[str] = STAGES) -> list[FlowRow]:
    """The lines of a table, each with the outcomes of `stages` that it has; media are left where they are."""
    outcomes = {stage: decode_outcomes(stage, table[stage]) for stage in stages if stage in table.column_names}
    items = zip(*(table[name].to_pylist() for name in _ITEM), strict=True)
    own = zip(*(table[name].to_pylist() for name in (*_OWN, "title", "extra")), strict=True)
    return [
        FlowRow(
            shard_id=shard_id,
            position=position,
            issued_rows=issued_rows,
            item=CatalogItem(**dict(zip(_ITEM, item, strict=True))),
            metadata=Metadata(title=title, extra=dict(extra)),
            pending=tuple(pending),
            outcomes={stage: one for stage, of in outcomes.items() if (one := of[index]) is not None},
        )
        for index, (item, (shard_id, position, issued_rows, pending, title, extra)) in enumerate(
            zip(items, own, strict=True)
        )
    ]


def with_outcomes(table: pa.Table, stage: str, outcomes: Sequence[Outcome | Failure | None]) -> pa.Table:
    """The table with a stage's column replaced; None leaves a line without an outcome of that stage."""
    return _with_column(table, stage, encode_outcomes(stage, outcomes))


def with_media(table: pa.Table, frames: Sequence[Frames | None], audio: Sequence[Audio | None]) -> pa.Table:
    """The table with its media columns filled."""
    pictures = [None if one is None else _frames_to_dict(one) for one in frames]
    sounds = [None if one is None else np.ascontiguousarray(one.samples).data.cast("B") for one in audio]
    table = _with_column(table, "frames", pa.array(pictures, type=_FRAMES))
    return _with_column(table, "audio", pa.array(sounds, type=pa.large_binary()))


def without_media(table: pa.Table, *, frames: bool, audio: bool) -> pa.Table:
    """The table with the media columns named emptied, once nobody downstream needs them."""
    for name, drop in (("frames", frames), ("audio", audio)):
        if drop:
            table = _with_column(table, name, pa.nulls(table.num_rows, FLOW_SCHEMA.field(name).type))
    return table


def with_spent(table: pa.Table, stage: str, seconds: float) -> pa.Table:
    """The table whose first line says that `stage` was busy with it for so long."""
    if table.num_rows == 0:
        return table
    spent = table["spent"].to_pylist()
    spent[0] = [*(spent[0] or []), {"stage": stage, "seconds": seconds}]
    return _with_column(table, "spent", pa.array(spent, type=_SPENT))


def spent_seconds(table: pa.Table) -> dict[str, float]:
    """Stage to busy seconds, summed over the table."""
    total: dict[str, float] = {}
    for line in table["spent"].to_pylist():
        for entry in line or []:
            total[entry["stage"]] = total.get(entry["stage"], 0.0) + entry["seconds"]
    return total


def read_frames(table: pa.Table, index: int) -> Frames | None:
    """The frames of one line, as a view into the table's buffer."""
    scalar = table["frames"][index]
    if not scalar.is_valid:
        return None
    buffer = scalar["pixels"].as_buffer()
    value = {name: scalar[name].as_py() for name in _FRAMES.names if name != "pixels"}
    shape = (len(value["indices"]), value.pop("height"), value.pop("width"), 3)
    pixels = np.frombuffer(buffer, dtype=np.uint8).reshape(shape)
    return Frames(
        pixels=pixels,
        times_seconds=tuple(value.pop("times_seconds")),
        indices=tuple(value.pop("indices")),
        **value,
    )


def read_audio(table: pa.Table, index: int) -> Audio | None:
    """The sound of one line, as a view into the table's buffer."""
    scalar = table["audio"][index]
    if not scalar.is_valid:
        return None
    return Audio(samples=np.frombuffer(scalar.as_buffer(), dtype=np.int16))


def _frames_to_dict(frames: Frames) -> dict[str, Any]:
    _, height, width, _ = frames.pixels.shape
    return {
        "pixels": np.ascontiguousarray(frames.pixels).data.cast("B"),
        "height": height,
        "width": width,
        "times_seconds": list(frames.times_seconds),
        "indices": list(frames.indices),
        "source_fps": frames.source_fps,
        "source_frames": frames.source_frames,
        "duration_seconds": frames.duration_seconds,
    }


def _with_column(table: pa.Table, name: str, values: "pa.Array[Any]") -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), FLOW_SCHEMA.field(name), values)
