"""The Arrow schemas of stage tables and journals, and the way from rows to tables and back.

A stage table has one line an item: its identity, the generation that made the line, the fields of the stage's record,
and `error`. A line holds a result (`error` null) or an error (the record's fields null), never both. A journal holds
whole rows: one struct a stage, null where the row did not run that stage.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from records.arrow import arrow_type, from_dict, struct_fields, to_dict
from records.errors import Failure
from records.outcomes import (
    STAGES,
    AudioDescription,
    AudioTags,
    Caption,
    Embedding,
    MediaFacts,
    Outcome,
    Transcript,
)

RECORD_TYPES: Mapping[str, type[Outcome]] = {
    "decode": MediaFacts,
    "caption": Caption,
    "transcribe": Transcript,
    "describe_audio": AudioDescription,
    "tag_audio": AudioTags,
    "embed": Embedding,
}
"""Stage name to the record it makes."""

VectorDtype = Literal["float16", "float32"]

_FAILURE = arrow_type(Failure, pa.float32())
_KEY: "list[pa.Field[Any]]" = [
    pa.field("video_id", pa.string(), nullable=False),
    pa.field("version", pa.int64(), nullable=False),
    pa.field("generation", pa.int64(), nullable=False),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One line of a stage table."""

    video_id: str
    version: int
    generation: int
    """The generation of the file in which this line was first written: a copied line keeps it."""
    outcome: Outcome | Failure

    @property
    def key(self) -> tuple[str, int]:
        """The item's identity."""
        return (self.video_id, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """One whole row that arrived and whose shard is not committed yet."""

    shard_id: str
    video_id: str
    version: int
    fingerprints: Mapping[str, str]
    """Stage to the fingerprint its outcome was made under."""
    generations: Mapping[str, int]
    """Stage to the generation its outcome was made for."""
    outcomes: Mapping[str, Outcome | Failure]

    @property
    def key(self) -> tuple[str, int]:
        """The item's identity."""
        return (self.video_id, self.version)


def stage_schema(stage: str, vector_dtype: VectorDtype = "float32") -> pa.Schema:
    """The schema of a stage's Parquet files."""
    fields = struct_fields(RECORD_TYPES[stage], getattr(pa, vector_dtype)())
    return pa.schema([*_KEY, *fields, pa.field("error", _FAILURE)])


def stage_table(stage: str, rows: Iterable[StageRow], vector_dtype: VectorDtype = "float32") -> pa.Table:
    """The rows as a table of `stage_schema`, in the order given."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        line: dict[str, Any] = {"video_id": row.video_id, "version": row.version, "generation": row.generation}
        if isinstance(row.outcome, Failure):
            line["error"] = to_dict(row.outcome)
        else:
            line |= to_dict(row.outcome)
        lines.append(line)
    return pa.Table.from_pylist(lines, schema=stage_schema(stage, vector_dtype))


def stage_rows(stage: str, table: pa.Table) -> list[StageRow]:
    """The rows that `stage_table` wrote."""
    record = RECORD_TYPES[stage]
    return [
        StageRow(
            video_id=line["video_id"],
            version=line["version"],
            generation=line["generation"],
            outcome=from_dict(Failure, line["error"]) if line["error"] is not None else from_dict(record, line),
        )
        for line in table.to_pylist()
    ]


def failure_columns(stage: str) -> list[str]:
    """The columns of a stage's files that hold failures: `error`, and those of single streams."""
    return [field.name for field in stage_schema(stage) if field.type == _FAILURE]


def outcome_type(stage: str) -> pa.StructType:
    """A stage's outcome as one struct: `result` or `error`, the other null; vectors as float32."""
    return pa.struct([pa.field("result", arrow_type(RECORD_TYPES[stage], pa.float32())), pa.field("error", _FAILURE)])


def outcome_to_dict(outcome: Outcome | Failure) -> dict[str, Any]:
    """An outcome as a value of `outcome_type`."""
    key = "error" if isinstance(outcome, Failure) else "result"
    return {key: to_dict(outcome)}


def outcome_from_dict(stage: str, value: Mapping[str, Any]) -> Outcome | Failure:
    """The outcome that `outcome_to_dict` wrote."""
    if value["error"] is not None:
        return from_dict(Failure, value["error"])
    return from_dict(RECORD_TYPES[stage], value["result"])


JOURNAL_SCHEMA = pa.schema(
    [
        pa.field("shard_id", pa.string(), nullable=False),
        *_KEY[:2],
        pa.field("fingerprints", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("generations", pa.map_(pa.string(), pa.int64()), nullable=False),
        *(pa.field(stage, outcome_type(stage)) for stage in STAGES),
    ]
)


def journal_table(rows: Sequence[JournalRow]) -> pa.Table:
    """The rows as a table of `JOURNAL_SCHEMA`, in the order given."""
    lines = [
        {
            "shard_id": row.shard_id,
            "video_id": row.video_id,
            "version": row.version,
            "fingerprints": list(row.fingerprints.items()),
            "generations": list(row.generations.items()),
            **{stage: outcome_to_dict(outcome) for stage, outcome in row.outcomes.items()},
        }
        for row in rows
    ]
    return pa.Table.from_pylist(lines, schema=JOURNAL_SCHEMA)


def journal_rows(table: pa.Table) -> list[JournalRow]:
    """The rows that `journal_table` wrote."""
    return [
        JournalRow(
            shard_id=line["shard_id"],
            video_id=line["video_id"],
            version=line["version"],
            fingerprints=dict(line["fingerprints"]),
            generations=dict(line["generations"]),
            outcomes={stage: outcome_from_dict(stage, line[stage]) for stage in STAGES if line.get(stage) is not None},
        )
        for line in table.to_pylist()
    ]
