"""Runs over a catalog that changes, in an order, over a range, until a limit: what is left is left, nothing is lost."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.gate import GateConfig
from pipeline.limits import Limits
from records.errors import FatalError, UserError
from tests.pipeline.light_stages import light_catalog, light_specs
from tests.pipeline.runs import BASE, committed, run_light

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("light_ray")]

IDS = [f"clip-{number:02d}" for number in range(40)]

specs_of = partial(light_specs, stages=("decode", "caption"))


def reads(log: Path) -> list[str]:
    return sorted(log.read_text().splitlines()) if log.exists() else []


def test_a_range_the_newest_first_and_several_shards_a_task_end_in_the_tables_of_one_run(tmp_path: Path) -> None:
    plain, output, log = tmp_path / "plain", tmp_path / "out", tmp_path / "reads"
    for folder in (plain, output):
        light_catalog(str(folder), IDS, shard_size=5, titles={one: f"title of {one}" for one in IDS})
    run_light(plain, specs_of(tmp_path / "other"))
    assert run_light(output, specs_of(log), order="newest", limit=6).shards_committed == 2
    assert reads(log) == IDS[30:]
    assert run_light(output, specs_of(log), shards=(1, 3)).shards_committed == 2
    assert reads(log) == IDS[5:15] + IDS[30:]
    report = run_light(
        output, specs_of(log), config=replace(BASE, graph=replace(BASE.graph, max_reads=2)), shards=(0, None)
    )
    assert (report.shards_committed, report.remaining) == (4, {})
    assert reads(log) == IDS
    assert committed(output, specs_of(log)) == committed(plain, specs_of(log))
    with pytest.raises(UserError, match="there is no shard 8, the catalog has 8"):
        run_light(output, specs_of(log), shards=(8, None))


def test_a_deadline_stops_reading_and_says_what_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), IDS, shard_size=5)
    # The clock reaches the deadline when the tenth clip is read: no second is waited for.
    limits = Limits(seconds=60.0, clock=lambda: 0.0 if len(reads(log)) < 10 else 61.0)
    config = replace(BASE, gate=GateConfig(max_rows_out=10))
    report = run_light(output, light_specs(log, seconds=0.05), config=config, limits=limits)
    assert (report.planned_stop, report.stopped) == (True, "the deadline is over")
    assert 10 <= len(reads(log)) < 40
    assert "and gate.max_rows_out lets 10 be on their way: some will starve" in caplog.text
    left = report.remaining["embed"]
    assert left.shards == 8 - report.shards_committed
    assert left.rows == 5 * left.shards
    assert f"embed {left.shards} shards" in report.as_markdown()
    report = run_light(output, light_specs(log))
    assert (report.stopped, report.remaining) == (None, {})
    tables = committed(output, light_specs(log))
    assert {stage: set(lines) for stage, lines in tables.items()} == {stage: set(IDS) for stage in tables}


def test_an_item_that_comes_back_runs_what_was_made_without_it_and_nothing_else(tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    three = partial(light_specs, stages=("decode", "caption", "embed"))
    light_catalog(str(output), IDS[:6], shard_size=3)
    run_light(output, three(log))
    light_catalog(str(output), [one for one in IDS[:6] if one != IDS[1]], shard_size=3)
    other = three(log, prompt="a hue")
    run_light(output, other)
    assert set(committed(output, other)["caption"]) == set(IDS[:6]) - {IDS[1]}
    log.unlink()
    light_catalog(str(output), IDS[:6], shard_size=3)
    report = run_light(output, other)
    assert {stage: stats.rows for stage, stats in report.stages.items() if stats.rows} == {"caption": 1, "embed": 1}
    assert reads(log) == [IDS[1]]
    tables = committed(output, other)
    assert {stage: set(lines) for stage, lines in tables.items()} == {stage: set(IDS[:6]) for stage in other}
    assert run_light(output, other).shards_pending == 0
    # With the first prompt the item has all its lines: they are copied, and no stage runs.
    report = run_light(output, three(log))
    assert not any(stats.rows for stats in report.stages.values())
    assert set(committed(output, three(log))["caption"]) == set(IDS[:6])


def test_a_shard_that_cannot_be_read_is_named_once_the_others_are_committed(tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), IDS[:9], shard_size=3)
    (damaged,) = (output / "catalog" / "shards").glob("00000001.*")
    damaged.unlink()
    with pytest.raises(FatalError, match=r"shard 00000001 and 0 others never came back whole .*no such object"):
        run_light(output, specs_of(log))
    assert set(committed(output, specs_of(log))["caption"]) == {*IDS[:3], *IDS[6:9]}
