"""The Arrow schemas of stage tables and journals, and the way from rows to tables and back.

A stage table has one line an item: its identity, the generation that made the line, the fields of the stage's record,
and `error`. A line holds a result (`error` null) or an error (the record's fields null), never both. A journal holds
whole rows: one struct a stage, null where the row did not run that stage.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import pyarrow as pa

from records.arrow import arrow_type, field_types, struct_fields
from records.columns import decode, encode_field, encode_records, records_of, structs
from records.errors import Failure
from records.failures import kinds_of
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
    position: int | None
    """Index of the item in its shard; None in a journal of before these were kept."""
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

    @property
    def failed(self) -> bool:
        """Whether it holds a failure."""
        return bool(kinds_of(self.outcomes))


def stage_schema(stage: str, vector_dtype: VectorDtype = "float32") -> pa.Schema:
    """The schema of a stage's Parquet files."""
    fields = struct_fields(RECORD_TYPES[stage], getattr(pa, vector_dtype)())
    return pa.schema([*_KEY, *fields, pa.field("error", _FAILURE)])


def stage_table(stage: str, rows: Iterable[StageRow], vector_dtype: VectorDtype = "float32") -> pa.Table:
    """The rows as a table of `stage_schema`, in the order given."""
    rows = list(rows)
    record, vector_type = RECORD_TYPES[stage], getattr(pa, vector_dtype)()
    results = [None if isinstance(row.outcome, Failure) else row.outcome for row in rows]
    columns = [pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in _KEY]
    columns += [encode_field(results, record, field.name, vector_type) for field in struct_fields(record, vector_type)]
    columns.append(encode_records([_failure(row.outcome) for row in rows], Failure, vector_type))
    return pa.Table.from_arrays(columns, schema=stage_schema(stage, vector_dtype))


def stage_rows(stage: str, table: pa.Table) -> list[StageRow]:
    """The rows that `stage_table` wrote."""
    record = RECORD_TYPES[stage]
    errors: list[Failure | None] = decode(table["error"], Failure)
    columns = {name: table[name] for name in field_types(record) if name in table.column_names}
    results = records_of(columns, record, [error is None for error in errors])
    keys = zip(*(table[field.name].to_pylist() for field in _KEY), strict=True)
    return [
        StageRow(video_id=video_id, version=version, generation=generation, outcome=_either(result, error))
        for (video_id, version, generation), result, error in zip(keys, results, errors, strict=True)
    ]


def failure_columns(stage: str) -> list[str]:
    """The columns of a stage's files that hold failures: `error`, and those of single streams."""
    return [field.name for field in stage_schema(stage) if field.type == _FAILURE]


def outcome_type(stage: str) -> pa.StructType:
    """A stage's outcome as one struct: `result` or `error`, the other null; vectors as float32."""
    return pa.struct([pa.field("result", arrow_type(RECORD_TYPES[stage], pa.float32())), pa.field("error", _FAILURE)])


def encode_outcomes(stage: str, outcomes: Sequence[Outcome | Failure | None]) -> pa.StructArray:
    """Outcomes of a stage, or None, as an array of `outcome_type`."""
    results = [None if isinstance(one, Failure) else one for one in outcomes]
    failures = [_failure(one) for one in outcomes]
    children = [
        encode_records(results, RECORD_TYPES[stage], pa.float32()),
        encode_records(failures, Failure, pa.float32()),
    ]
    return structs(children, list(outcome_type(stage)), outcomes)


def decode_outcomes(stage: str, column: "pa.Array[Any] | pa.ChunkedArray[Any]") -> list[Outcome | Failure | None]:
    """What `encode_outcomes` wrote."""
    if isinstance(column, pa.ChunkedArray):
        return [outcome for chunk in column.chunks for outcome in decode_outcomes(stage, chunk)]
    if column.null_count == len(column):
        return [None] * len(column)
    results, errors = cast(pa.StructArray, column).flatten()
    return [
        result if error is None else error
        for result, error in zip(decode(results, RECORD_TYPES[stage]), decode(errors, Failure), strict=True)
    ]


def _failure(outcome: Outcome | Failure | None) -> Failure | None:
    return outcome if isinstance(outcome, Failure) else None


def _either(result: Outcome | None, error: Failure | None) -> Outcome | Failure:
    outcome = result if error is None else error
    assert outcome is not None, "a line holds a result or an error"
    return outcome


_JOURNAL: "list[pa.Field[Any]]" = [
    pa.field("shard_id", pa.string(), nullable=False),
    pa.field("position", pa.int64()),
    *_KEY[:2],
    pa.field("fingerprints", pa.map_(pa.string(), pa.string()), nullable=False),
    pa.field("generations", pa.map_(pa.string(), pa.int64()), nullable=False),
    *(pa.field(stage, outcome_type(stage)) for stage in STAGES),
]
JOURNAL_SCHEMA = pa.schema(_JOURNAL)


def journal_table(rows: Sequence[JournalRow]) -> pa.Table:
    """The rows as a table of `JOURNAL_SCHEMA`, in the order given."""
    columns: list[pa.Array[Any]] = []
    for field in JOURNAL_SCHEMA:
        if field.name in STAGES:
            columns.append(encode_outcomes(field.name, [row.outcomes.get(field.name) for row in rows]))
            continue
        values = [getattr(row, field.name) for row in rows]
        maps = field.name in ("fingerprints", "generations")
        columns.append(pa.array([list(one.items()) for one in values] if maps else values, type=field.type))
    return pa.Table.from_arrays(columns, schema=JOURNAL_SCHEMA)


def journal_rows(table: pa.Table) -> list[JournalRow]:
    """The rows that `journal_table` wrote."""
    outcomes = {stage: decode_outcomes(stage, table[stage]) for stage in STAGES if stage in table.column_names}
    plain = ["shard_id", "position", "video_id", "version", "fingerprints", "generations"]
    lines = table.select([name for name in plain if name in table.column_names]).to_pylist()
    return [
        JournalRow(
            shard_id=line["shard_id"],
            position=line.get("position"),
            video_id=line["video_id"],
            version=line["version"],
            fingerprints=dict(line["fingerprints"]),
            generations=dict(line["generations"]),
            outcomes={stage: one for stage, of in outcomes.items() if (one := of[index]) is not None},
        )
        for index, line in enumerate(lines)
    ]
