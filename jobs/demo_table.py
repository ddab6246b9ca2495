"""The first rows of an output as a person reads them: one line a video, one column a stage."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from records.errors import Failure
from records.outcomes import AudioDescription, AudioTags, Caption, Embedding, Note, Outcome, Transcript
from storage.catalog import Catalog
from storage.stage_tables import StageTables
from storage.stores import Store

SHOWN_STAGES = {
    "caption": "caption",
    "transcribe": "transcript",
    "describe_audio": "sounds",
    "tag_audio": "tags",
    "embed": "vectors",
}
"""Stage to the heading of its column."""

MAX_CHARACTERS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRow:
    """One video and what a reader sees of each stage."""

    video_id: str
    cells: Mapping[str, str]
    """Stage to text; a stage that has not run is absent."""


def newest_fingerprints(store: Store) -> dict[str, str]:
    """Stage to the fingerprint of the run that started last, from its report; empty where no run has ended yet."""
    reports: list[dict[str, Any]] = []
    for run_id in store.folders("runs/"):
        path = f"runs/{run_id}/report.json"
        if store.exists(path):
            reports.append(json.loads(store.read_bytes(path)))
    if not reports:
        return {}
    return dict(max(reports, key=lambda report: str(report["started_at"]))["fingerprints"])


def read_rows(store: Store, fingerprints: Mapping[str, str], limit: int) -> list[DemoRow]:
    """At most `limit` rows, shard by shard, each with what the stages of `fingerprints` made of it.

    Items that were deleted or replaced since are left out.
    """
    tables, catalog = StageTables(store), Catalog.open(store)
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for stage in SHOWN_STAGES:
        if stage not in fingerprints:
            continue
        for key, outcome in _first(tables, catalog, stage, fingerprints[stage], limit):
            cells.setdefault(key, {})[stage] = describe(outcome)
    return [DemoRow(video_id=key[0], cells=cells[key]) for key in sorted(cells)[:limit]]


def describe(outcome: Outcome | Failure) -> str:
    """One cell: the text, the tags or the vectors' lengths; why there is nothing; or what went wrong."""
    if isinstance(outcome, Failure):
        return f"error: {outcome.kind} at {outcome.stage}"
    if isinstance(outcome, Embedding):
        views = {"video": outcome.video, "audio": outcome.audio, "metadata": outcome.metadata, "all": outcome.all}
        return "\n".join(
            f"{name} ({view.missing.replace('_', ' ')})" if view.vector is None else f"{name} {len(view.vector)}-d"
            for name, view in views.items()
        )
    if isinstance(outcome, Caption | Transcript | AudioDescription | AudioTags) and outcome.note != Note.NONE:
        return f"({outcome.note.replace('_', ' ')})"
    if isinstance(outcome, AudioTags):
        return "\n".join(
            f"{label} {score:.2f}" for label, score in zip(outcome.labels[:3], outcome.scores[:3], strict=True)
        )
    text = " ".join(outcome.text.split()) if isinstance(outcome, Caption | Transcript | AudioDescription) else ""
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


def render(rows: list[DemoRow]) -> Table:
    """The rows as a table for a terminal."""
    stages = [stage for stage in SHOWN_STAGES if any(stage in row.cells for row in rows)]
    table = Table(show_lines=True)
    table.add_column("video_id", overflow="fold")
    for stage in stages:
        table.add_column(SHOWN_STAGES[stage], overflow="fold")
    for row in rows:
        # As Text: a bracket in a model's words is no markup.
        table.add_row(*(Text(text) for text in (row.video_id, *(row.cells.get(stage, "-") for stage in stages))))
    return table


def _first(
    tables: StageTables, catalog: Catalog | None, stage: str, fingerprint: str, limit: int
) -> Iterator[tuple[tuple[str, int], Outcome | Failure]]:
    """The first `limit` live items of a stage, in the order of shards."""
    left = limit
    for shard_id, generation in tables.generations(stage, fingerprint):
        removed = catalog.removed(shard_id) if catalog is not None else {}
        live = [row for row in tables.read(stage, fingerprint, shard_id, generation) if row.key not in removed]
        for row in live[:left]:
            yield row.key, row.outcome
            left -= 1
        if not left:
            return
