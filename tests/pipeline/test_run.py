"""Whole runs of the light graph on a real Ray: what is committed, what runs again, and what never does."""

import io
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from cluster.cheapest import Offer
from cluster.packing import NodeType
from cluster.prices import PriceTable
from pipeline.run_metrics import ROWS_EXPECTED
from pipeline.run_request import RunRequest
from records.errors import UserError
from records.schemas import JournalRow
from storage.catalog import Catalog
from storage.journals import Journal
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.pipeline.drivers import last_report
from tests.pipeline.light import nothing
from tests.pipeline.light_stages import POOL, light_catalog, light_specs
from tests.pipeline.runs import committed, run_light, stage_files
from tests.pipeline.scraping import Scrape, until
from tests.pipeline.wrapped_stages import build_slowly
from tests.storage.journal_rows import read_journals

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("light_ray")]

IDS = [f"clip-{number:02d}" for number in range(30)]


MACHINE = PriceTable(
    currency="EUR",
    offers=(Offer(type=NodeType(name="node", cpus=4, gpus=1, memory_bytes=2**34), price_per_hour=2.0, most=1),),
)
"""What a machine as large as the tests' Ray costs."""

short_specs = partial(light_specs, stages=("decode", "caption"))


def reads(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, light_ray: None) -> tuple[Path, Path]:
    """A finished output, with one item missing, and the log of its reads."""
    output, log = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("log") / "reads"
    light_catalog(str(output), [*IDS, "missing"], shard_size=8, titles={one: f"title of {one}" for one in IDS})
    specs = dict(light_specs(log))
    build = partial(build_slowly, specs["caption"].build, 5.0)
    specs["caption"] = replace(specs["caption"], pool=replace(POOL, num_gpus=0.25), build=build)
    report = run_light(output, specs, prices=MACHINE)
    assert (report.items_run, report.items_with_errors, report.shards_committed, report.stopped) == (31, 1, 4, None)
    return output, log


def test_every_item_has_one_line_in_every_stage_and_the_missing_one_an_error(undisturbed: tuple[Path, Path]) -> None:
    output, log = undisturbed
    tables = committed(output, light_specs(log))
    assert set(tables) == {"decode", "caption", "transcribe", "embed"}
    for stage, lines in tables.items():
        assert set(lines) == {*IDS, "missing"}
        errors = {one for one, line in lines.items() if line["type"] == "Failure"}
        assert errors == (set() if stage == "embed" else {"missing"})
    assert tables["caption"]["missing"]["kind"] == "not_found"
    assert tables["caption"]["missing"]["stage"] == "decode"
    assert str(tables["caption"]["clip-07"]["text"]).startswith("clip-07: a shade of")
    assert sorted(reads(log)) == sorted([*IDS, "missing"])


def test_empty_files_are_failures_of_one_kind_that_no_worker_of_media_is_started_for(tmp_path: Path) -> None:
    """However many there are: neither does the breaker trip, whose share and window are small here."""
    output, log = tmp_path / "out", tmp_path / "reads"
    ids = [f"empty-{number:03d}" for number in range(120)]
    light_catalog(str(output), ids, shard_size=20, size_bytes=0, titles={ids[0]: "a title"})
    specs = {name: replace(spec, build=nothing) if spec.is_media else spec for name, spec in light_specs(log).items()}
    report = run_light(output, specs)
    assert (report.items_run, report.items_with_errors, report.shards_committed, report.stopped) == (120, 120, 6, None)
    tables = committed(output, specs)
    for stage in ("decode", "caption", "transcribe"):
        assert {(line["stage"], line["kind"]) for line in tables[stage].values()} == {("decode", "no_bytes")}
        assert tables[stage].keys() == set(ids)
    assert tables["embed"][ids[0]]["metadata"]["vector"] is not None  # type: ignore[index] # a view
    assert tables["embed"][ids[1]]["video"]["vector"] is None  # type: ignore[index] # likewise
    assert reads(log) == []


def test_the_ledger_prices_what_each_pool_held(undisturbed: tuple[Path, Path]) -> None:
    report = last_report(undisturbed[0])
    assert (report["prices"]["gpu_per_hour"], report["prices"]["cpu_per_hour"]) == (2.0, 0.0)
    for stage, line in report["ledger"].items():
        price = 0.25 * 2.0 if stage == "caption" else 0.0  # a GPU's price has its node's cores
        assert line["price"] == pytest.approx(line["held_seconds"] / 3600 * price), stage
    caption = report["ledger"]["caption"]  # while its process starts it is not heard of, while its model loads it is
    assert (caption["workers"], caption["waiting_share"] > 0, caption["loading_share"] > 0) == (1, True, True)
    nodes = report["node_costs"]
    assert (nodes["mean_nodes"], nodes["most_nodes"]) == (pytest.approx(1.0), 1)
    assert sum(line["price"] for line in report["ledger"].values()) < nodes["cost"] <= report["seconds"] / 3600 * 2.0
    assert "EUR" in next((undisturbed[0] / "runs").glob("*/report.md")).read_text()


def test_a_table_that_does_not_know_the_nodes_is_said_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (offer,) = MACHINE.offers
    other = PriceTable(currency="EUR", offers=(replace(offer, type=replace(offer.type, cpus=7)),))
    light_catalog(str(tmp_path / "out"), IDS[:2], shard_size=2)
    report = run_light(tmp_path / "out", short_specs(tmp_path / "reads"), prices=other)
    assert (report.stopped, report.items_run, report.prices) == (None, 2, None)
    assert "--prices has no price for nodes of this cluster (" in caplog.text


def test_a_second_run_does_nothing_and_leaves_no_journal(undisturbed: tuple[Path, Path]) -> None:
    output, log = undisturbed
    before, read = stage_files(output), len(reads(log))
    report = run_light(output, light_specs(log))
    assert (report.shards_pending, report.items_run) == (0, 0)
    assert stage_files(output) == before
    assert len(reads(log)) == read
    assert list(read_journals(Store.open(str(output)))) == []


def test_a_changed_encoder_reads_no_video(undisturbed: tuple[Path, Path]) -> None:
    output, log = undisturbed
    before, read = stage_files(output), len(reads(log))
    other = light_specs(log, encoder="second")
    report = run_light(output, other)
    assert {stage: stats.rows for stage, stats in report.stages.items() if stats.rows} == {"embed": 31}
    assert len(reads(log)) == read
    after = stage_files(output)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[1] for name in after.keys() - before.keys()} == {"embed"}
    first, second = (committed(output, specs)["embed"]["clip-00"]["video"] for specs in (light_specs(log), other))
    assert first != second


def test_a_changed_prompt_runs_caption_and_embed_only(undisturbed: tuple[Path, Path]) -> None:
    output, log = undisturbed
    before = stage_files(output)
    other = light_specs(log, prompt="a hue")
    report = run_light(output, other)
    assert {stage: stats.rows for stage, stats in report.stages.items() if stats.rows} == {"caption": 31, "embed": 31}
    after = stage_files(output)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[1] for name in after.keys() - before.keys()} == {"caption", "embed"}
    assert "a hue" in str(committed(output, other)["caption"]["clip-00"]["text"])


def test_a_changed_title_runs_embed_of_its_item_and_reads_no_video(
    tmp_path: Path, undisturbed: tuple[Path, Path]
) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    shutil.copytree(undisturbed[0], output)
    titles = {one: f"title of {one}" for one in IDS}
    light_catalog(str(output), [*IDS, "missing"], shard_size=8, titles={**titles, "clip-09": "another title"})
    report = run_light(output, light_specs(log))
    assert {stage: stats.rows for stage, stats in report.stages.items() if stats.rows} == {"embed": 1}
    assert reads(log) == []
    lines = committed(output, light_specs(log))["embed"]
    assert lines["clip-09"]["metadata"]["document"] == "another title"  # type: ignore[index]
    assert lines["clip-08"]["metadata"]["document"] == "title of clip-08"  # type: ignore[index]


def test_other_batches_and_pools_change_nothing(undisturbed: tuple[Path, Path]) -> None:
    from tests.pipeline.runs import BASE

    output, log = undisturbed
    config = replace(BASE, graph=replace(BASE.graph, block_rows=2), shard_size=99)
    assert run_light(output, light_specs(log), config=config).shards_pending == 0


def test_retry_failed_runs_those_rows_alone(tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), ["a", "b", "missing-1", "c", "missing-2", "d"], shard_size=3)
    run_light(output, short_specs(log))
    log.unlink()
    assert run_light(output, short_specs(log), retry_kinds=frozenset({"timeout"})).shards_pending == 0
    report = run_light(output, short_specs(log), retry_kinds=frozenset())
    expected = partial(Scrape.total, name=ROWS_EXPECTED.exported_name, run_id=report.run_id)
    assert expected(until(Scrape.now, lambda scrape: expected(scrape) == 2)) == 2
    assert sorted(reads(log)) == ["missing-1", "missing-2"]
    assert report.stages["decode"].failed == 2
    tables = committed(output, short_specs(log))
    assert tables["decode"]["missing-1"]["attempts"] == 2
    assert tables["caption"]["a"]["type"] == "Caption"
    assert run_light(output, short_specs(log)).shards_pending == 0


def test_a_retry_leaves_what_was_never_run_to_a_run(tmp_path: Path) -> None:
    """The breaker does not watch over a retry, so that nothing may fail in it but what has failed before."""
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), ["a", "missing-1", "b", "c"], shard_size=2)
    specs = short_specs(log)
    run_light(output, specs, limit=1)
    log.unlink()
    before = stage_files(output)
    report = run_light(output, specs, retry_kinds=frozenset())
    assert set(reads(log)) == {"missing-1"}
    assert {stage: stats.rows for stage, stats in report.stages.items()} == dict.fromkeys(report.stages, 1)
    made = stage_files(output).keys() - before.keys()
    assert {Path(path).name for path in made} == {"00000000.1.parquet"}
    assert run_light(output, specs).items_run == 2


def test_what_a_journal_brought_is_not_expected_on_the_display(tmp_path: Path, undisturbed: tuple[Path, Path]) -> None:
    output, specs, display = tmp_path / "out", short_specs(tmp_path / "reads"), io.StringIO()
    light_catalog(str(output), [*IDS, "missing"], shard_size=8)
    done = StageTables(Store.open(str(undisturbed[0])))
    lines = {name: done.read(name, spec.fingerprint, "00000000", 0) for name, spec in specs.items()}
    rows = [
        JournalRow(
            shard_id="00000000",
            position=position,
            video_id=lines["decode"][position].video_id,
            version=lines["decode"][position].version,
            fingerprints={name: spec.fingerprint for name, spec in specs.items()},
            generations=dict.fromkeys(specs, 0),
            outcomes={name: lines[name][position].outcome for name in specs},
        )
        for position in range(5)
    ]
    Journal(Store.open(str(output)), "20260101T000000-stopped").append(rows)
    report = run_light(output, specs, console=Console(file=display, force_terminal=True, width=120, _environ={}))
    assert (report.items_from_journal, report.items_run) == (5, 26)
    assert set(re.findall(r"rows \d+/~(\d+)", display.getvalue())) == {"26"}


def test_some_stages_now_and_the_others_later_give_the_same_tables(
    tmp_path: Path, undisturbed: tuple[Path, Path]
) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), [*IDS, "missing"], shard_size=8, titles={one: f"title of {one}" for one in IDS})
    first = run_light(output, light_specs(log), stages=("transcribe",))
    assert set(committed(output, light_specs(log))) == {"decode", "transcribe"}
    assert first.stages["transcribe"].rows == 31
    run_light(output, light_specs(log), stages=("embed",))
    assert "embed" not in committed(output, light_specs(log))
    run_light(output, light_specs(log))
    whole = committed(undisturbed[0], light_specs(log))
    assert committed(output, light_specs(log)) == whole


def test_a_limit_runs_whole_shards_until_it_is_reached(tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), IDS, shard_size=8)
    assert run_light(output, short_specs(log), limit=10).items_run == 16
    assert run_light(output, short_specs(log)).items_run == 14


def test_a_cluster_too_small_for_one_stage_is_told_in_one_line(tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), IDS[:3], shard_size=8)
    specs = dict(light_specs(log))
    specs["caption"] = replace(specs["caption"], pool=replace(specs["caption"].pool, num_gpus=8.0))
    with pytest.raises(UserError, match=r"caption needs .* 8 GPUs"):
        run_light(output, specs)


def test_a_cluster_too_small_for_all_stages_runs_phases_to_the_same_tables(
    tmp_path: Path, undisturbed: tuple[Path, Path]
) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), [*IDS, "missing"], shard_size=8, titles={one: f"title of {one}" for one in IDS})
    specs = {name: replace(spec, pool=replace(spec.pool, num_cpus=1.2)) for name, spec in light_specs(log).items()}
    report = run_light(output, specs)
    assert report.phases == [["decode", "caption"], ["decode", "transcribe"], ["embed"]]
    assert (report.shards_committed, report.shards_pending) == (4, 4)
    assert committed(output, specs) == committed(undisturbed[0], light_specs(log))


def test_an_unknown_stage_is_told_with_the_known_ones(undisturbed: tuple[Path, Path]) -> None:
    output, log = undisturbed
    assert RunRequest(output_uri=str(output)).stages is None
    with pytest.raises(UserError, match="no stage 'captions' here; the stages are decode, caption"):
        run_light(output, light_specs(log), stages=("captions",))
    assert Catalog.open(Store.open(str(output))) is not None


def test_replaced_and_deleted_items_are_skipped_and_counted(tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), ["a", "b", "c", "d"], shard_size=4)
    light_catalog(str(output), ["a", "b"], shard_size=4)
    report = run_light(output, short_specs(log))
    assert (report.items, report.items_run, report.items_removed) == (2, 2, 2)
    assert sorted(reads(log)) == ["a", "b"]
    assert set(committed(output, short_specs(log))["caption"]) == {"a", "b"}
