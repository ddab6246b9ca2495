"""A shard's stage tables side by side: the rows of a release, and what is counted of them. Arrow in, Arrow out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from pipeline.quality_stats import Floats, ReleaseStatistics, TextStatistics, ViewStatistics, counts_of
from pipeline.sketches import Distinct, Repeats, hash64
from records.errors import ReelscribeError
from records.items import CatalogItem, Metadata
from records.outcomes import STAGES
from records.releases import ERROR_TYPE, TAG_TYPE, VIEWS, items_schema
from records.schemas import VectorDtype

Key = tuple[str, int]
Column = Any
"""An Arrow array, chunked or not."""

pc: Any = pyarrow.compute  # the stubs know few of the types that its functions take


def aligned(stage: str, table: pa.Table, keys: Sequence[Key]) -> pa.Table:
    """The lines of these items, in this order.

    Raises:
        ReelscribeError: An item has no line.
    """
    lines = list(zip(table["video_id"].to_pylist(), table["version"].to_pylist(), strict=True))
    if lines == list(keys):
        return table
    places = {key: index for index, key in enumerate(lines)}
    try:
        return table.take(pa.array([places[key] for key in keys], pa.int64()))
    except KeyError as error:
        raise ReelscribeError(f"{stage} has no line of {error.args[0]}: delete its file, and it runs again") from None


def release_table(
    items: Sequence[CatalogItem],
    metadata: Mapping[Key, Metadata],
    tables: Mapping[str, pa.Table],
    vector_dtype: VectorDtype,
) -> pa.Table:
    """The release's rows of one shard.

    Args:
        items: The live items, in the shard's order.
        metadata: Of those that have any.
        tables: Stage to its lines, `aligned` with the items; a stage that the config lacks is left out.
        vector_dtype: As the vectors are stored.
    """
    rows = len(items)
    columns: dict[str, Any] = {
        "video_id": [item.video_id for item in items],
        "version": [item.version for item in items],
        "uri": [item.uri for item in items],
        "duration_seconds": tables["decode"]["duration_seconds"],
        "title": [metadata[item.key].title if item.key in metadata else "" for item in items],
        "caption": _text(tables, "caption", "text", rows),
        "transcript": _text(tables, "transcribe", "text", rows),
        "language": _text(tables, "transcribe", "language", rows),
        "audio_description": _text(tables, "describe_audio", "text", rows),
        "audio_tags": _tags(tables.get("tag_audio"), rows),
        "errors": pa.array(row_errors(tables, rows), pa.list_(ERROR_TYPE)),
    }
    embed = tables["embed"]
    failed = _kinds(embed)
    for view in VIEWS:
        value = embed[view]
        columns[f"document_{view}"] = pc.struct_field(value, "document")
        columns[f"vector_{view}"] = pc.struct_field(value, "vector")
        columns[f"missing_{view}"] = pc.coalesce(pc.struct_field(value, "missing"), failed)
    schema = items_schema(vector_dtype)
    arrays = [_array(columns[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def row_errors(tables: Mapping[str, pa.Table], rows: int) -> list[list[dict[str, Any]]]:
    """For each row, the failures of its lines, upstream first; those of single streams count as decode's."""
    found: list[list[dict[str, Any]]] = [[] for _ in range(rows)]
    for stage in STAGES:
        names = ("error", "video_failure", "audio_failure") if stage == "decode" else ("error",)
        for name in names if stage in tables else ():
            column: Column = tables[stage][name]
            places = np.flatnonzero(_is_valid(column))
            for place, failure in zip(places.tolist(), column.take(pa.array(places)).to_pylist(), strict=True):
                found[place].append(
                    {
                        "stage": stage,
                        "cause": failure["stage"],
                        "kind": failure["kind"],
                        "message": failure["message"],
                        "attempts": failure["attempts"],
                    }
                )
    return found


def shard_statistics(
    table: pa.Table, tables: Mapping[str, pa.Table], made_with: Mapping[str, Mapping[str, int]]
) -> ReleaseStatistics:
    """What gates count of one shard.

    Args:
        table: What `release_table` made.
        tables: What it was made of.
        made_with: Stage to what its file says of its making.
    """
    errors: list[Any] = table["errors"].to_pylist()
    kinds: dict[str, list[str]] = {stage: [] for stage in tables}
    failed = dict.fromkeys(tables, 0)
    for row in errors:
        for error in row:
            kinds[error["stage"]].append(error["kind"])
        for stage in {error["stage"] for error in row}:
            failed[stage] += 1
    texts: list[Any] = table["caption"].to_pylist()
    captions = [" ".join(text.split()) for text in texts if text and text.strip()]
    spoken, uncertain = _languages(tables.get("transcribe"))
    decode = tables["decode"]
    return ReleaseStatistics(
        rows=len(table),
        rows_with_errors=sum(bool(row) for row in errors),
        without_video=int(pc.sum(pc.invert(decode["has_video"])).as_py() or 0),
        without_audio=int(pc.sum(pc.invert(decode["has_audio"])).as_py() or 0),
        failed_rows=failed,
        error_kinds={stage: counts_of(found) for stage, found in kinds.items()},
        texts={name: _text_statistics(stage, tables[stage]) for name, stage in _TEXTS.items() if stage in tables},
        languages=counts_of(spoken),
        uncertain_languages=uncertain,
        captions=Distinct.of(hash64(text.casefold()) for text in captions),
        repeats=Repeats.of(captions),
        views={view: _view_statistics(table, tables["embed"], view) for view in VIEWS},
        made_with=made_with,
    )


_TEXTS = {"caption": "caption", "transcript": "transcribe", "audio_description": "describe_audio"}
"""A text of a release to the stage that writes it."""


def vectors_of(column: Column) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """The vectors that there are, (n, D) in their own type, and (rows,) where there is one.

    Raises:
        ReelscribeError: They are not all of one length.
    """
    has = _is_valid(column)
    lengths = np.unique(np.asarray(pc.list_value_length(column).drop_null()))
    if len(lengths) > 1:
        raise ReelscribeError(f"vectors of {lengths.tolist()} dimensions under one fingerprint: run embed again")
    dimension = int(lengths[0]) if len(lengths) else 0
    values = np.asarray(pc.list_flatten(column))
    return values.reshape(int(has.sum()), dimension), has


def _view_statistics(table: pa.Table, embed: pa.Table, view: str) -> ViewStatistics:
    vectors, _ = vectors_of(table[f"vector_{view}"])
    reasons: list[Any] = table[f"missing_{view}"].to_pylist()
    missing = [reason for reason in reasons if reason]
    cut = int(pc.sum(pc.struct_field(embed[view], "cut")).as_py() or 0)
    doubles: Floats = vectors.astype(np.float64)
    return ViewStatistics.of(doubles, counts_of(missing), cut)


def _text_statistics(stage: str, table: pa.Table) -> TextStatistics:
    lengths = np.asarray(pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(table["text"])), 0), dtype=np.int64)
    expected: npt.NDArray[np.bool_] = np.asarray(pc.fill_null(pc.equal(table["note"], ""), False)).astype(bool)
    truncated = 0
    if stage == "caption":
        truncated = int(pc.sum(pc.equal(table["finish_reason"], "length")).as_py() or 0)
    elif stage == "describe_audio":
        truncated = int(pc.sum(pc.greater(table["truncated_windows"], 0)).as_py() or 0)
    return TextStatistics.of(lengths, expected, truncated)


def _languages(table: pa.Table | None) -> tuple[list[str], int]:
    """The language of every transcript with words, and how many of them are uncertain."""
    if table is None:
        return [], 0
    columns: list[list[Any]] = [table[name].to_pylist() for name in ("text", "language", "language_probability")]
    texts, codes, certain = columns
    spoken = [place for place, text in enumerate(texts) if text and text.strip() and codes[place]]
    return [codes[place] for place in spoken], sum(certain[place] < 0.5 for place in spoken)


def footer_note(metadata: Mapping[bytes, bytes] | None) -> str:
    """What of a stage file's footer a manifest keeps: all but the run and the counts, as JSON."""
    values = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
    left_out = ("run_id", "failures", "stream_failures", "ARROW:schema")
    kept = {key: value for key, value in values.items() if key not in left_out}
    return json.dumps(kept, sort_keys=True)


def _text(tables: Mapping[str, pa.Table], stage: str, column: str, rows: int) -> Column:
    return tables[stage][column] if stage in tables else pa.nulls(rows, pa.string())


def _tags(table: pa.Table | None, rows: int) -> Column:
    """Labels and scores, two lists, as one list of both."""
    if table is None:
        return pa.nulls(rows, pa.list_(TAG_TYPE))
    labels: Column = table["labels"].combine_chunks()
    scores: Column = table["scores"].combine_chunks()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(labels), 0))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    pairs: Column = pa.StructArray.from_arrays([labels.flatten(), scores.flatten()], fields=list(TAG_TYPE))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pairs, mask=labels.is_null())


def _kinds(table: pa.Table) -> Column:
    return pc.coalesce(pc.struct_field(table["error"], "kind"), "")


def _is_valid(column: Column) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_valid(column), dtype=bool)


def _array(values: Column, kind: pa.DataType) -> Column:
    if isinstance(values, list):
        return pa.array(values, kind)
    return values if values.type == kind else values.cast(kind)
