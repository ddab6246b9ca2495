"""What is counted as left to do is what a run would do, also where of a shard only some titles were edited."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline import unfinished
from pipeline.plan import Plan, ShardTask
from pipeline.reader import ShardReader
from pipeline.unfinished import ToDo, count_to_do, unfinished_plan
from records.flow import FlowRow
from records.schemas import StageRow
from storage.catalog import Catalog
from storage.stage_tables import StageTables
from storage.stores import Store, StoreConfig
from tests.pipeline.light import SPECS, MemoryTables, item, outcome, plan_for
from tests.pipeline.light_stages import light_catalog

IDS = [f"v{number}" for number in range(12)]
TITLES = {one: f"title of {one}" for one in IDS}


def commit(output: Path, shards: Sequence[str]) -> None:
    """Commits every stage of some shards as a run would, each line with the generation of its file."""
    store = Store.open(str(output))
    catalog = Catalog.open(store)
    assert catalog is not None
    for task in unfinished_plan(store, catalog, SPECS, list(SPECS)).tasks():
        for stage, generation in task.targets.items() if task.shard_id in shards else ():
            rows = [
                StageRow(
                    video_id=one.video_id,
                    version=one.version,
                    generation=generation,
                    outcome=outcome(stage, one.video_id),
                )
                for one in catalog.read_shard(task.shard_id)
            ]
            StageTables(store).commit(stage, SPECS[stage].fingerprint, task.shard_id, generation, rows, {})


def counted(output: Path) -> ToDo:
    store = Store.open(str(output))
    catalog = Catalog.open(store)
    assert catalog is not None
    reader = ShardReader(
        output_uri=str(output), catalog_revision=catalog.revision, specs=SPECS, gate=None, store=StoreConfig()
    )
    plan = unfinished_plan(store, catalog, SPECS, list(SPECS))
    return count_to_do(plan, catalog.live_counts(), SPECS, reader.lines)


def test_edited_titles_count_alone_and_what_was_never_made_whole(tmp_path: Path) -> None:
    light_catalog(str(tmp_path), IDS, shard_size=4, titles=TITLES)
    whole = counted(tmp_path)
    assert (whole.rows, whole.items.tolist()) == (dict.fromkeys(SPECS, 12), [4, 4, 4])
    commit(tmp_path, ["00000000", "00000001"])
    assert counted(tmp_path).rows == dict.fromkeys(SPECS, 4)
    light_catalog(str(tmp_path), IDS, shard_size=4, titles={**TITLES, "v1": "another", "v4": "third", "v6": "fourth"})
    left = counted(tmp_path)
    assert left.rows == {"decode": 4, "caption": 4, "embed": 1 + 2 + 4}
    assert left.items.tolist() == [1, 2, 4]
    commit(tmp_path, ["00000002"])
    assert counted(tmp_path).rows == {"embed": 3}


def stale_titles(shards: int) -> Plan:
    """A catalog whose titles were edited in every shard after all was done."""
    done = MemoryTables()
    done.files = {
        (stage, spec.fingerprint, f"{shard:08d}", 0): [] for stage, spec in SPECS.items() for shard in range(shards)
    }
    return plan_for(done, shards, metadata=dict.fromkeys(range(shards), 1))


def edited(task: ShardTask) -> list[FlowRow]:
    """One line of an even shard, three of an odd one."""
    return [
        FlowRow(shard_id=task.shard_id, position=at, issued_rows=1, item=item(f"{at}"), pending=("embed",))
        for at in range(1 + 2 * (int(task.shard_id) % 2))
    ]


@pytest.mark.parametrize(("most_read", "read"), [(64, 50), (20, 20)])
def test_of_many_stale_shards_some_are_read_and_the_others_taken_to_be_alike(
    monkeypatch: pytest.MonkeyPatch, most_read: int, read: int
) -> None:
    monkeypatch.setattr(unfinished, "MOST_READ", most_read)
    asked: list[str] = []

    def reading(task: ShardTask) -> list[FlowRow]:
        asked.append(task.shard_id)
        return edited(task)

    found = count_to_do(stale_titles(50), np.full(50, 512), SPECS, reading)
    assert len(asked) == len(set(asked)) == read
    assert asked[0] == "00000000"
    assert asked[-1] == "00000049", "spread over the catalog"
    assert list(found.rows) == ["embed"]
    assert found.rows["embed"] == (100 if read == 50 else pytest.approx(100, rel=0.3))
    assert all(1 <= items <= 3 for items in found.items)


def test_nothing_is_read_where_nothing_is_stale() -> None:
    def never(task: ShardTask) -> list[FlowRow]:
        raise AssertionError

    found = count_to_do(plan_for(MemoryTables(), 3), np.asarray([7, 0, 5]), SPECS, never)
    assert (found.rows, found.items.tolist()) == (dict.fromkeys(SPECS, 12), [7, 0, 5])
