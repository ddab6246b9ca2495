"""What of a catalog is still to be done, as a plan and in items a stage: the listing half of a run, without the run."""

from collections.abc import Sequence

import numpy as np

from pipeline.plan import NONE, Plan, make_plan
from pipeline.spec import Specs, in_order
from storage.catalog import Catalog
from storage.stage_tables import StageTables
from storage.stores import Store


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


def rows_to_do(plan: Plan, catalog: Catalog, specs: Specs) -> dict[str, int]:
    """Stage to the live items of the shards where it is pending, for those that have some, upstream first.

    Decode runs for every item that a stage looks at or listens to, whether or not its own facts are stored.
    """
    live = catalog.live_counts()
    pending = {stage: target != NONE for stage, target in plan.targets.items()}
    media = np.zeros(len(live), dtype=bool)
    for stage, mask in pending.items():
        if specs[stage].is_media:
            media |= mask
    rows = {stage: int(live[mask].sum()) for stage, mask in pending.items()} | {"decode": int(live[media].sum())}
    return {stage: rows[stage] for stage in in_order(rows) if rows[stage]}
