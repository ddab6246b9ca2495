"""What of a catalog is still to be done, as a plan and in items a stage: the listing half of a run, without the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from pipeline.plan import NONE, Plan, ShardTask, make_plan
from pipeline.spec import Specs, in_order
from records.flow import FlowRow
from storage.catalog import Catalog
from storage.stage_tables import StageTables
from storage.stores import Store

MOST_READ = 64
"""Shards that are read to count what of them is stale."""

_ROUNDING = 1e-6


def unfinished_plan(store: Store, catalog: Catalog, specs: Specs, selected: Sequence[str]) -> Plan:
    """Every shard that has work for the stages selected."""
    return make_plan(
        shard_ids=catalog.shard_ids(),
        tables=StageTables(store),
        metadata=catalog.files.metadata.astype(np.int32),
        titles=catalog.files.titles.astype(np.int32),
        returned=catalog.files.returned.astype(np.int32),
        specs=specs,
        selected=selected,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToDo:
    """The items that a plan has work for."""

    rows: Mapping[str, int]
    """Stage to the items that it has to do, for those that have some, upstream first."""
    items: npt.NDArray[np.int64]
    """(S,) items of each shard that have work."""


def count_to_do(
    plan: Plan, live: npt.NDArray[np.int64], specs: Specs, read: Callable[[ShardTask], Sequence[FlowRow]]
) -> ToDo:
    """Counts what a run of the plan would do.

    A stage without a file for a shard has all of its live items to do. One whose file is stale has those lines whose
    input or title is newer: they are read, of at most `MOST_READ` such shards, and of more taken to be as many in
    proportion. Decode runs for every item that a stage looks at or listens to, whether or not its facts are stored.

    Args:
        plan: What is pending.
        live: (S,) live items of every shard of the catalog.
        specs: The whole graph.
        read: Gives the pending lines of a shard.
    """
    pending = {stage: target != NONE for stage, target in plan.targets.items()}
    stale = np.flatnonzero(np.any([mask & (plan.existing[stage] != NONE) for stage, mask in pending.items()], axis=0))
    looked_at = stale[np.unique(np.linspace(0, len(stale) - 1, min(len(stale), MOST_READ)).astype(np.int64))]
    lines = [read(plan.task(index)) for index in looked_at.tolist()]
    rows: dict[str, int] = {}
    for stage, mask in pending.items():
        if stage != "decode":
            needs = partial(_needs, stage)
            rows[stage] = round(_corrected(np.where(mask, live, 0), stale, looked_at, lines, needs).sum())
    is_media = [mask for stage, mask in pending.items() if specs[stage].is_media]
    media = np.any(is_media, axis=0) if is_media else np.zeros(len(live), dtype=bool)
    decodes = partial(_decodes, specs)
    rows["decode"] = round(_corrected(np.where(media, live, 0), stale, looked_at, lines, decodes).sum())
    anything = np.where(np.any(list(pending.values()), axis=0), live, 0)
    items = _corrected(anything, stale, looked_at, lines, lambda line: True)
    return ToDo(
        rows={stage: rows[stage] for stage in in_order(rows) if rows[stage]},
        items=np.ceil(items - _ROUNDING).astype(np.int64),
    )


def _corrected(
    most: npt.NDArray[np.int64],
    stale: npt.NDArray[np.int64],
    looked_at: npt.NDArray[np.int64],
    lines: Sequence[Sequence[FlowRow]],
    counts: Callable[[FlowRow], bool],
) -> npt.NDArray[np.float64]:
    """(S,) items of each shard that count: the lines of those looked at, other stale ones in proportion.

    Args:
        most: (S,) what would count if all of a shard's items had work.
        stale: Numbers of the shards of which only some lines may.
        looked_at: Those of them whose `lines` are given.
        counts: Whether a line does.
    """
    found = np.asarray([sum(map(counts, of)) for of in lines], dtype=np.float64)
    whole = most[looked_at].sum()
    corrected = most.astype(np.float64)
    if whole:
        corrected[stale] *= found.sum() / whole
    corrected[looked_at] = found
    return corrected


def _needs(stage: str, line: FlowRow) -> bool:
    return stage in line.pending


def _decodes(specs: Specs, line: FlowRow) -> bool:
    return any(specs[stage].is_media for stage in line.pending)
