"""Which items of a shard run which stages: `make` again, one line at a time, once a shard's files have been read."""

from collections.abc import Mapping, Sequence

from pipeline.plan import ShardTask
from pipeline.spec import Specs
from records.errors import Failure
from records.failures import failures_of, known_failure
from records.flow import FlowRow
from records.items import CatalogItem, Metadata
from records.schemas import StageRow

Key = tuple[str, int]
Tables = Mapping[str, Mapping[Key, StageRow]]
"""Stage to the lines of its newest file for the shard, by item."""


def select_rows(
    *,
    task: ShardTask,
    items: Mapping[int, CatalogItem],
    metadata: Mapping[Key, Metadata],
    titles: Mapping[Key, int],
    tables: Tables,
    specs: Specs,
) -> list[FlowRow]:
    """The lines to issue, in the shard's order, each with its pending stages and the stored outcomes they read.

    Args:
        task: The shard, and the files it is to get.
        items: Its live items, by their position in the shard.
        metadata: What is known of them.
        titles: Item to the generation in which its title last changed.
        tables: Stored lines.
        specs: The whole graph.
    """
    found: list[tuple[int, CatalogItem, tuple[str, ...]]] = []
    for position, item in items.items():
        if task.skip >> position & 1:
            continue
        pending = pending_stages(item.key, task, titles, tables, specs)
        if pending:
            found.append((position, item, pending))
    return [
        FlowRow(
            shard_id=task.shard_id,
            position=position,
            issued_rows=len(found),
            item=item,
            metadata=metadata.get(item.key, Metadata()),
            pending=pending,
            outcomes={
                stage: tables[stage][item.key].outcome
                for stage in sorted({read for name in pending for read in specs[name].reads} - set(pending))
                if item.key in tables.get(stage, {})
            }
            | _known(item, pending, specs)
            | dict(task.preset.get(item.key, {})),
        )
        for position, item, pending in found
    ]


def _known(item: CatalogItem, pending: Sequence[str], specs: Specs) -> dict[str, Failure]:
    """What the catalog knows to come of the item's bytes: no worker need look at them."""
    failure = known_failure(item)
    return {} if failure is None else {stage: failure for stage in pending if specs[stage].is_media}


def pending_stages(
    key: Key, task: ShardTask, titles: Mapping[Key, int], tables: Tables, specs: Specs
) -> tuple[str, ...]:
    """The stages this item must run: no line yet, one older than what it read, or a failure that is to be retried."""
    pending: list[str] = []
    for name in specs:
        if name in task.targets and _is_pending(name, key, task, titles, tables, specs, pending):
            pending.append(name)
    return tuple(pending)


def _is_pending(
    name: str,
    key: Key,
    task: ShardTask,
    titles: Mapping[Key, int],
    tables: Tables,
    specs: Specs,
    pending_upstream: Sequence[str],
) -> bool:
    line = tables.get(name, {}).get(key)
    if line is None or any(read in pending_upstream for read in specs[name].reads):
        return True
    if specs[name].reads_metadata and titles.get(key, line.generation) > line.generation:
        return True
    upstream = (tables.get(read, {}).get(key) for read in specs[name].reads)
    if any(read is not None and read.generation > line.generation for read in upstream):
        return True
    kinds = task.retry.get(name, frozenset())
    return any(str(failure.kind) in kinds for failure in failures_of(line.outcome))
