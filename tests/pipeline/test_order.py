"""What goes first, and that every shard goes once whatever goes first."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.order import column_of, shard_priority
from pipeline.tasks import Tasks
from records.errors import UserError
from records.items import Metadata
from storage.catalog import Catalog
from storage.catalog_refresh import refresh
from storage.stores import Store
from tests.pipeline.light import MemoryTables, failure, plan_for
from tests.storage.catalog_model import opened, source_item

Numbers = list[float]
numbers = st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=6, max_size=6)


def catalog_of(folder: Path) -> Catalog:
    """Three shards of 2, 2 and 1 items; `b` was deleted."""
    store = Store.open(str(folder))
    views = {"a": 5, "b": 9, "c": 100, "d": 2, "e": 7}
    table = [(one, Metadata(extra={"views": str(number), "place": "Ulm"})) for one, number in views.items()]
    for ids in ("abcde", "acde"):
        refresh(store, [source_item(one, (1, "e")) for one in ids], table, "mem", 2, lambda shard_id: 0)
    return opened(store)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("oldest", [0, 1, 2]),
        ("newest", [2, 1, 0]),
        ("largest", [1, 0, 2]),
        ("views", [1, 2, 0]),
        ("column:views", [1, 2, 0]),
    ],
)
def test_orders(tmp_path: Path, order: str, expected: list[int]) -> None:
    catalog = catalog_of(tmp_path)
    plan = plan_for(MemoryTables(), 3).ordered(shard_priority(catalog, order))
    assert plan.order.tolist() == expected


def test_an_unknown_column_names_the_known(tmp_path: Path) -> None:
    for order in ("likes", "place"):
        with pytest.raises(UserError, match="no such numeric metadata column; there are views"):
            shard_priority(catalog_of(tmp_path / order), order)
    assert (column_of("newest"), column_of("column:newest"), column_of("views")) == (None, "newest", "views")


@settings(deadline=None)
@given(priority=numbers, done=st.sets(st.integers(0, 5)), first=st.integers(0, 7))
def test_any_order_runs_every_pending_shard_once_high_values_first(
    priority: Numbers, done: set[int], first: int
) -> None:
    tables = MemoryTables()
    for shard in done:
        for stage, fingerprint in (("decode", "d1"), ("caption", "c1"), ("embed", "e1")):
            tables.files[stage, fingerprint, f"{shard:08d}", 0] = []
    plan = plan_for(tables, 6).ordered(np.asarray(priority))
    assert sorted(plan.order.tolist()) == sorted(set(range(6)) - done)
    found = np.asarray(priority)[plan.order]
    numbered = found[~np.isnan(found)]
    assert np.isnan(found[len(numbered) :]).all()
    assert (np.diff(numbered) <= 0).all()
    assert plan.first(first).order.tolist() == plan.order.tolist()[:first]


def test_tasks_are_those_of_the_plan_with_what_is_there_already() -> None:
    tables = MemoryTables()
    for shard in (0, 2):
        for stage, fingerprint in (("decode", "d1"), ("caption", "c1")):
            tables.files[stage, fingerprint, f"{shard:08d}", 0] = []
    plan = plan_for(tables, 4)
    crash = {("b", 1): {"caption": failure("caption")}}
    tasks = Tasks(
        plan=plan,
        indices=plan.order,
        arrived=lambda shard_id: 0b1 if shard_id == "00000001" else 0,
        presets={"00000003": crash},
    )
    assert len(tasks) == 4
    assert [(task.shard_id[-1], task.skip, task.preset) for task in tasks] == [
        ("0", 0, {}),
        ("1", 1, {}),
        ("2", 0, {}),
        ("3", 0, crash),
    ]
    media, texts = tasks.split(["decode", "caption"])
    assert [task.shard_id[-1] for task in media] == ["1", "3"]
    assert [task.shard_id[-1] for task in texts] == ["0", "2"]
    assert (media.stages(), texts.stages()) == ({"decode", "caption", "embed"}, {"embed"})
    empty = replace(tasks, empty=np.array([True, True, False, False]))
    media, texts = empty.split(["decode", "caption"])
    assert [task.shard_id[-1] for task in media] == ["3"], "nothing of shard 1 is looked at"
    assert [task.shard_id[-1] for task in texts] == ["0", "1", "2"]
    assert [task.shard_id[-1] for task in tasks.where(lambda shard_id: shard_id > "00000001")] == ["2", "3"]


@given(
    left=st.lists(st.integers(0, 10), min_size=1, max_size=30),
    shards=st.integers(1, 4),
    rows=st.integers(1, 12),
)
def test_shards_of_which_little_is_left_are_read_together(left: list[int], shards: int, rows: int) -> None:
    """Of ten items each, all those that are not left have arrived."""
    plan = plan_for(MemoryTables(), len(left))
    tasks = Tasks(
        plan=plan,
        indices=plan.order,
        arrived=lambda shard_id: (1 << 10 - left[int(shard_id)]) - 1,
        items=np.full(len(left), 10),
    )
    groups = [[int(task.shard_id) for task in group] for group in tasks.groups(shards=shards, rows=rows)]
    assert [shard for group in groups for shard in group] == list(range(len(left)))

    def is_enough(group: list[int]) -> bool:
        known = sum(rows if left[shard] == 10 else max(1, left[shard]) for shard in group)
        return len(group) >= shards and known >= rows

    assert all(is_enough(group) for group in groups[:-1])
    assert not any(is_enough(group[:-1]) for group in groups)
