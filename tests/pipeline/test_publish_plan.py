"""A publish's plan: parts of the size asked for, and a digest that follows the content alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.publish_config import PublishConfig
from pipeline.publish_plan import PublishPlan, _part_ends, make_publish_plan
from pipeline.publish_vectors import PartRows, VectorFile, piece_tasks
from storage.catalog import Catalog
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.pipeline.stage_maker import SPECS, Maker, ids_of

CONFIG = PublishConfig(part_bytes=50_000)


def plan_of(store: Store, config: PublishConfig = CONFIG, *, allow_partial: bool = False) -> PublishPlan:
    catalog = Catalog.open(store)
    assert catalog is not None
    return make_publish_plan(catalog, StageTables(store), SPECS, config, allow_partial=allow_partial)


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    made = Maker(store=Store.open(str(tmp_path)))
    made.fill(made.list_items(ids_of(40)))
    return made


@given(sizes=st.lists(st.integers(0, 1000), min_size=1, max_size=50), part_bytes=st.integers(1, 3000))
def test_parts_hold_each_shard_once_and_are_as_large_as_they_should(sizes: list[int], part_bytes: int) -> None:
    ends = _part_ends(np.asarray(sizes, dtype=np.int64), part_bytes).tolist()
    assert ends == sorted(set(ends))
    assert ends[-1] == len(sizes)
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        assert sum(sizes[start : end - 1]) < part_bytes, "the last shard of a part fills it"
        assert end == len(sizes) or sum(sizes[start:end]) >= part_bytes


def test_tasks_name_the_newest_files(maker: Maker) -> None:
    catalog = Catalog.open(maker.store)
    assert catalog is not None
    maker.fill(catalog, generation=10, shards=["00000002"])
    maker.fill(catalog, generation=9, shards=["00000002"])
    tasks = list(plan_of(maker.store).tasks())
    assert [task.number for task in tasks] == list(range(len(tasks)))
    sources = [source for task in tasks for source in task.shards]
    assert [source.shard_id for source in sources] == list(catalog.shard_ids())
    assert {source.shard_id: set(source.generations.values()) for source in sources} == {
        shard_id: {10 if shard_id == "00000002" else 0} for shard_id in catalog.shard_ids()
    }
    assert {source.metadata_generation for source in sources} == {0}


def test_the_digest_follows_the_content(maker: Maker, tmp_path: Path) -> None:
    first = plan_of(maker.store)
    assert plan_of(maker.store).content == first.content
    larger = plan_of(maker.store, PublishConfig(part_bytes=10**6))
    assert (larger.content, larger.parts) == (first.content, 1)
    assert larger.work != first.work, "another cut: what is written of the first is of no use"
    catalog = Catalog.open(maker.store)
    assert catalog is not None
    maker.fill(catalog, generation=1, shards=["00000001"])
    second = plan_of(maker.store)
    maker.list_items([*ids_of(39)])  # one is deleted
    third = plan_of(maker.store)
    maker.list_items([*ids_of(39), "new"])
    fourth = plan_of(maker.store, allow_partial=True)
    assert len({first.content, second.content, third.content}) == 3
    assert (fourth.content, fourth.left_out) == (third.content, 1)


def test_a_sample_of_few_rows_is_part_of_one_of_more(maker: Maker) -> None:
    below = [plan_of(maker.store, PublishConfig(sample_rows=rows)).sample_below for rows in (1, 10, 40, 100)]
    assert below == sorted(below)
    assert below[2] == below[3] == 2**64
    assert below[1] == 2**62


@given(
    rows=st.lists(st.integers(0, 7), min_size=1, max_size=8),
    dimension=st.integers(0, 5),
    piece_bytes=st.integers(1, 400),
)
def test_pieces_cover_a_file_once_and_know_who_holds_their_rows(
    rows: list[int], dimension: int, piece_bytes: int
) -> None:
    starts = np.cumsum([0, *rows])
    parts = [PartRows(path=str(n), first_row=int(starts[n]), rows=count) for n, count in enumerate(rows)]
    file = VectorFile(path="p", view="all", rows=sum(rows), dimension=dimension, dtype="float16")
    pieces = list(piece_tasks(file, "t", piece_bytes, parts))
    assert [piece.number for piece in pieces] == list(range(len(pieces)))
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    assert pieces[-1].end == file.size_bytes
    header = len(file.header)
    for piece in pieces:
        held = {row for part in piece.parts for row in range(part.first_row, part.first_row + part.rows)}
        places = range(max(piece.start - header, 0), max(piece.end - header, 0))
        needed = {place // file.row_bytes for place in places} if file.row_bytes else set()
        assert needed == set(file.rows_of(piece.start, piece.end))
        assert needed <= held
        assert all(needed & set(range(part.first_row, part.first_row + part.rows)) for part in piece.parts if part.rows)
