"""What may go wrong inside a run: each fault costs what it must and no more, and is told in one line."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.decode import DecodeStage
from actors.decode_config import DecodeConfig
from pipeline.gate import GateConfig
from pipeline.heartbeat import ORPHAN_SECONDS
from pipeline.spec import StageSpec
from records.errors import BusyError, FatalError, ReelscribeError
from records.items import CatalogItem
from storage.fetched import FetchedMedia
from storage.leases import Lease
from storage.stores import Store
from tests.actors.decode_stand_ins import ACTIONS, decode_or_misbehave
from tests.clips import make_clip
from tests.pipeline.drivers import Driver
from tests.pipeline.light_stages import light_catalog, light_specs
from tests.pipeline.run_processes import GATE, READER, run_processes
from tests.pipeline.runs import BASE, all_cpus_are_free, committed, run_light, stage_files
from tests.pipeline.wrapped_stages import (
    build_choking,
    build_dying,
    build_hanging,
    build_never,
    build_once,
    cannot_build,
    noted,
    noted_lines,
    worker_pids,
)

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("light_ray")]

IDS = [f"clip-{number:02d}" for number in range(12)]

short_specs = partial(light_specs, stages=("decode", "caption"))


class NamedBytes:
    """Fetches a real clip, or the bytes that make the stand-in decoder do what the item's id names."""

    def __init__(self, clip: Path) -> None:
        self._clip = clip

    def __call__(self, item: CatalogItem) -> FetchedMedia:
        name = item.video_id.encode()
        return FetchedMedia.of_bytes(name if name in ACTIONS else self._clip.read_bytes())


def build_misbehaving_decode(clip: Path) -> DecodeStage:
    """The real stage with its real sandbox, and a decoder that crashes, hangs and hoards where it is told to."""
    config = DecodeConfig(max_frames=4, timeout_seconds=5.0, memory_limit_bytes=300 * 2**20)
    return DecodeStage(config, NamedBytes(clip), decode_or_misbehave)


def failures(output: Path, specs: dict[str, StageSpec]) -> dict[tuple[str, str], str]:
    """Stage and item to the kind of failure."""
    return {
        (stage, one): str(line["kind"])
        for stage, lines in committed(output, specs).items()
        for one, line in lines.items()
        if line["type"] == "Failure"
    }


def test_clips_that_kill_hang_and_bloat_the_decoder_and_a_row_that_kills_its_captioner(tmp_path: Path) -> None:
    output, clip = tmp_path / "out", tmp_path / "clip.mp4"
    make_clip(clip, seconds=1.0)
    broken = {"segfault": "crashed", "hang": "timeout", "allocate": "out_of_memory"}
    ids = ["a", "segfault", "b", "hang", "c", "kills-caption", "allocate", "d"]
    light_catalog(str(output), ids, shard_size=4)
    specs = dict(light_specs(tmp_path / "reads", stages=("decode", "caption", "transcribe")))
    specs["decode"] = replace(specs["decode"], build=partial(build_misbehaving_decode, clip))
    # With a share of a GPU, Ray Data joins what comes to a captioner into calls of eight rows.
    captioner = replace(specs["caption"].pool, num_gpus=0.5, batch_rows=8)
    specs["caption"] = replace(specs["caption"], pool=captioner)
    report = run_light(output, specs)
    assert (report.stopped, report.items_run, report.items_with_errors, report.shards_committed) == (None, 8, 4, 2)
    lost = {(stage, one): kind for stage in ("decode", "caption", "transcribe") for one, kind in broken.items()}
    assert failures(output, specs) == {**lost, ("caption", "kills-caption"): "worker_crashed"}
    tables = committed(output, specs)
    assert {stage: set(lines) for stage, lines in tables.items()} == {stage: set(ids) for stage in specs}
    for one in ("a", "b", "c", "d"):
        assert str(tables["caption"][one]["text"]).startswith(f"{one}: a shade of")
        assert tables["decode"][one]["video_codec"] == "h264"
    assert tables["transcribe"]["kills-caption"]["language"] == "en"
    assert all_cpus_are_free(within_seconds=20), "no pass leaves a worker behind"


def kill_once_read(reads: Path, roles: Collection[str]) -> None:
    """SIGKILL to a process of each role, as soon as something is read."""
    while not noted_lines(reads):
        time.sleep(0.01)
    for role in roles:
        while not (found := [process for its, process in run_processes() if its == role]):
            time.sleep(0.01)
        found[0].kill()


def test_a_gate_and_a_reader_that_are_killed_cost_no_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output, reads = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), IDS, shard_size=2)
    specs = light_specs(reads, seconds=0.2)
    killer = threading.Thread(target=kill_once_read, args=(reads, (READER, GATE)), daemon=True)
    killer.start()
    narrow = replace(BASE, gate=GateConfig(max_rows_out=4))  # others wait at the gate
    report = run_light(output, specs, config=narrow, stages=["decode"])
    assert not killer.is_alive(), "both were there to be killed"
    assert (report.stopped, report.items_run, report.items_with_errors) == (None, len(IDS), 0)
    assert {stage: set(lines) for stage, lines in committed(output, specs).items()} == {"decode": set(IDS)}
    assert caplog.text.count("the gate died, opening another: ActorDiedError") == 1


@pytest.mark.chaos
def test_a_shard_whose_reader_dies_each_time_ends_the_run_with_its_name(tmp_path: Path) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), IDS, shard_size=len(IDS))
    over = threading.Event()

    def kill_readers() -> None:
        while not over.wait(0.05):
            for role, process in run_processes():
                if role == READER:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()

    killer = threading.Thread(target=kill_readers)
    killer.start()
    try:
        with pytest.raises(FatalError, match=r"^shard 00000000 and 0 others .*the process that read it died each time"):
            run_light(output, light_specs(tmp_path / "reads"), stages=["decode"])
    finally:
        over.set()
        killer.join()


def test_a_stage_that_cannot_be_built_ends_the_run_with_its_own_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), IDS, shard_size=4)
    good = dict(short_specs(tmp_path / "reads"))
    bad = {**good, "caption": replace(good["caption"], build=cannot_build)}
    with pytest.raises(FatalError, match=r"caption cannot start, tried \d times: RuntimeError: the weights") as raised:
        run_light(output, bad)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in capsys.readouterr().out
    assert stage_files(output) == {}
    (report,) = output.glob("runs/*/report.json")
    assert json.loads(report.read_text())["stopped"] == f"FatalError: {raised.value}"
    assert run_light(output, good).items_with_errors == 0
    assert {stage: len(lines) for stage, lines in committed(output, good).items()} == dict.fromkeys(good, len(IDS))


@pytest.mark.parametrize(
    ("stage", "hangs_in", "limits", "words"),
    [
        ("caption", build_hanging, {"stuck_seconds": 8.0}, r"stuck in caption: nothing has moved for \d+ s"),
        pytest.param(
            "transcribe",
            build_never,
            {"start_timeout_seconds": 20.0},
            r"transcribe has no worker that is ready, .*; one has loaded its model for \d+ s",
            marks=pytest.mark.chaos,
        ),
    ],
)
def test_a_run_that_stands_still_ends_and_names_the_stage_and_shows_its_stacks(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    stage: str,
    hangs_in: Callable[[Callable[[], object]], object],
    limits: dict[str, Any],
    words: str,
) -> None:
    output = tmp_path / "out"
    light_catalog(str(output), IDS, shard_size=4)
    good = dict(light_specs(tmp_path / "reads", stages=("decode", stage)))
    bad = {**good, stage: replace(good[stage], build=partial(hangs_in, good[stage].build))}
    with pytest.raises(FatalError, match=words) as raised:
        run_light(output, bad, config=replace(BASE, graph=replace(BASE.graph, **limits)))
    assert "\n" not in str(raised.value)
    assert "wait_for_ever" in caplog.text, "the stack of what hangs"
    assert run_light(output, good).items_with_errors == 0
    assert {stage: len(lines) for stage, lines in committed(output, good).items()} == dict.fromkeys(good, len(IDS))
    assert all_cpus_are_free(within_seconds=ORPHAN_SECONDS + 30), "a worker that hangs does not outlive its run"


@pytest.mark.parametrize(("deaths", "workers"), [(1, 1), (2, 2)])
def test_a_dead_engine_is_rebuilt_in_its_worker_first_and_then_with_another(
    tmp_path: Path, deaths: int, workers: int
) -> None:
    output, notes = tmp_path / "out", tmp_path / "notes"
    light_catalog(str(output), IDS, shard_size=4)
    specs = noted(short_specs(tmp_path / "reads"), notes)
    caption = specs["caption"]
    specs["caption"] = replace(caption, build=partial(build_dying, caption.build, notes / "deaths", deaths))
    report = run_light(output, specs)
    assert (report.stopped, report.items_run, report.items_with_errors) == (None, len(IDS), 0)
    died = [int(line) for line in noted_lines(notes / "deaths")]
    assert len(died) == deaths
    assert len(set(died)) == 1
    builds = worker_pids(notes, "caption")
    assert builds.count(died[0]) == 2, "the first death is mended in the worker itself"
    assert len(set(builds)) == workers
    assert all(str(line["text"]).startswith(one) for one, line in committed(output, specs)["caption"].items())


def test_an_engine_that_cannot_be_built_again_costs_its_worker_and_no_row(tmp_path: Path) -> None:
    output, notes = tmp_path / "out", tmp_path / "notes"
    light_catalog(str(output), IDS, shard_size=4)
    specs = noted(short_specs(tmp_path / "reads"), notes)
    caption = specs["caption"]
    specs["caption"] = replace(caption, build=partial(build_once, caption.build, notes / "deaths"))
    report = run_light(output, specs)
    assert (report.stopped, report.items_run, report.items_with_errors) == (None, len(IDS), 0)
    assert len(noted_lines(notes / "deaths")) == 1
    assert len(set(worker_pids(notes, "caption"))) == 2


def test_a_call_that_raises_costs_only_the_row_that_makes_it_raise(tmp_path: Path) -> None:
    output = tmp_path / "out"
    stages = ["decode", "caption", "transcribe", "embed"]
    ids = [*IDS[:5], *(f"chokes-{stage}" for stage in stages), *IDS[5:]]
    light_catalog(str(output), ids, shard_size=20)
    specs = {
        stage: replace(spec, build=partial(build_choking, spec.build, f"chokes-{stage}"))
        for stage, spec in light_specs(tmp_path / "reads").items()
    }
    report = run_light(output, specs)
    assert (report.stopped, report.items_run, report.items_with_errors) == (None, len(ids), 4)
    lost = {(stage, f"chokes-{stage}") for stage in stages} | {
        (stage, "chokes-decode") for stage in ("caption", "transcribe")
    }
    assert failures(output, specs) == dict.fromkeys(lost, "engine_error")
    tables = committed(output, specs)
    assert {tables[stage][one]["message"] for stage, one in lost} == {"RuntimeError: shapes do not fit"}


def test_a_damaged_stage_file_that_must_be_read_is_named_and_ends_the_run(tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "reads"
    light_catalog(str(output), IDS, shard_size=4)
    specs_of = partial(light_specs, log, stages=("decode", "caption", "embed"))
    run_light(output, specs_of())
    (damaged,) = (output / "stages" / "caption").glob("*/00000001.0.parquet")
    damaged.write_bytes(damaged.read_bytes()[:100])
    other = specs_of(encoder="second")
    with pytest.raises(ReelscribeError, match=r"00000001\.0\.parquet is damaged: delete it") as raised:
        run_light(output, other)
    assert "\n" not in str(raised.value)
    damaged.unlink()
    report = run_light(output, other)
    assert report.items_with_errors == 0
    assert set(committed(output, other)["embed"]) == set(IDS)


@pytest.fixture
def held_output(tmp_path: Path) -> Iterator[Path]:
    """An output that a run of this process holds."""
    output = tmp_path / "out"
    light_catalog(str(output), IDS, shard_size=4)
    with Lease.acquire(Store.open(str(output)), "the-first-run"):
        yield output


def test_a_second_run_on_one_output_refuses_and_names_the_first(held_output: Path, tmp_path: Path) -> None:
    with pytest.raises(BusyError, match="in use by run the-first-run"):
        run_light(held_output, light_specs(tmp_path / "reads"))
    assert stage_files(held_output) == {}


def test_the_command_refuses_an_output_in_use_with_one_line_and_exit_code_2(held_output: Path, tmp_path: Path) -> None:
    arguments = ["--source", str(tmp_path), "--output", str(held_output), "--recipe", "tiny"]
    driver = Driver.start("jobs.annotate", arguments, dict(os.environ), tmp_path / "log")
    assert driver.wait() == 2
    last = driver.said().splitlines()[-1]
    assert last.startswith("error: ")
    assert "in use by run the-first-run" in last
    assert "Traceback" not in driver.said()
