"""`jobs.publish` as typed: what it prints, its exit codes, what wrong input gets, and what prune leaves of releases."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from jobs import prune, publish
from jobs.cli import run_command
from jobs.publish import GATE_EXIT
from pipeline.config import RunConfig
from pipeline.publish import Publish
from pipeline.spec import Specs
from storage.releases import Releases
from storage.stores import Store
from tests.jobs.refused import check_refusal
from tests.pipeline.publishing import tasks_here
from tests.pipeline.stage_maker import SPECS, Maker, failing, ids_of


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sixty described items, of which three failed in `caption`; the graph's fingerprints are those of the tables."""

    def specs(config: RunConfig) -> Specs:
        return SPECS

    for module in (publish, prune):
        monkeypatch.setattr(module, "build_specs", specs)
    monkeypatch.setattr(publish, "Publish", partial(Publish, open_tasks=tasks_here))
    uri = str(tmp_path / "out")
    maker = Maker(store=Store.open(uri), change=failing("caption", "clip-0001", "clip-0002", "clip-0003"))
    maker.fill(maker.list_items(ids_of(60)))
    return uri


def run(*arguments: str) -> int:
    settings = ["--set", "publish.key_frames=0", "--set", "publish.gallery_items=1", "--set", "embed.dtype=float32"]
    return run_command(publish.main, [*arguments, "--recipe", "tiny", *settings])


def test_a_release_is_published_once(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--output", output, "--release", "r1") == 0
    said = capsys.readouterr().out
    assert re.search(r"Released 60 items to .*/releases/r1/: \d+ gates passed, \d+ had nothing to judge", said)
    assert "LATEST was moved to it" in said
    assert f"Report: {output}/releases/r1/report.html" in said
    assert run("--output", output, "--release", "r1") == 0
    said = capsys.readouterr().out
    assert "Nothing to do: release r1 holds exactly this; LATEST names it already" in said


def test_a_failed_gate_is_named_with_its_number(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    gate = ("--gate", "max_error_share=0.01", "--gate", "min_rows=1000")
    assert run("--output", output, "--release", "r1", *gate) == GATE_EXIT == 4
    said = capsys.readouterr().out
    assert "Not released: 1 of " in said
    assert "error_share.caption is 0.05, must be <= 0.01 (3 of 60 rows); its limit: --gate max_error_share=" in said
    (report,) = Path(output, "runs").glob("*/report.html")
    assert f"Report: {report}" in said
    assert Releases(Store.open(output)).latest() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--release", "r1"], "required: --output"),
        (["--output", "OUT"], "required: --release"),
        (["--output", "OUT", "--release", "a/b"], "--release 'a/b': letters, digits"),
        (["--output", "OUT", "--release", "LATEST"], "and not LATEST"),
        (["--output", "OUT", "--release", "r1", "--gate", "max_error_share"], "--gate max_error_share: expected"),
        (["--output", "OUT", "--release", "r1", "--gate", "max_eror_share=1"], "did you mean"),
        (["--output", "OUT", "--release", "r1", "--gate", "max_error_share=2"], "between 0 and 1"),
        (["--output", "OUT", "--release", "r1", "--gate", "max_error_share=many"], "max_error_share"),
        (["--output", "OUT", "--release", "r1", "--set", "publish.piece_bytes=7"], "at least 5 MiB"),
        (["--output", "OUT/none", "--release", "r1"], "has no catalog"),
    ],
)
def test_a_wrong_argument_gets_one_clear_line(
    output: str, arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refusal(lambda: run(*[one.replace("OUT", output) for one in arguments]), message, capsys)


def test_prune_removes_releases_that_were_never_finished_and_no_other(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--output", output, "--recipe", "tiny"]
    assert run("--output", output, "--release", "good") == 0
    assert run("--output", output, "--release", "bad", "--gate", "max_error_share=0") == GATE_EXIT
    store = Store.open(output)
    store.start_upload("releases/bad/vectors/all.npy")
    before = {entry.path for entry in store.list("releases/good/")}
    capsys.readouterr()
    assert run_command(prune.main, arguments) == 0
    assert re.search(r"release +bad +\d+ files +never finished", capsys.readouterr().out)
    assert run_command(prune.main, [*arguments, "--yes"]) == 0
    assert "removed" in capsys.readouterr().out
    assert {entry.path for entry in store.list("releases/")} == {*before, "releases/LATEST"}
    assert list(store.list("publishing/")) == []
    assert store.open_uploads("") == []
    assert run_command(prune.main, arguments) == 0
    assert "nothing to remove" in capsys.readouterr().out
