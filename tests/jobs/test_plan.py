"""`jobs.plan` as a user runs it: what is wrong is said in one line before anything is probed; a real plan is run."""

import json
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from jobs import annotate, plan
from jobs.cli import run_command
from pipeline.recipes import tiny
from records.errors import UserError
from storage.catalog import Catalog
from storage.stores import Store
from tests.clips import make_clip
from tests.jobs.described import command
from tests.jobs.refused import check_refusal
from tests.pipeline.light_stages import light_catalog

PRICES = """\
currency: EUR
node_types:
  cpu: {cpus: 6, memory: 16GiB, price_per_hour: 2.0}
  toy: {cpus: 1, memory: 16GiB, price_per_hour: 0.1}
"""


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Files and outputs that arguments name."""
    (tmp_path / "EMPTY").mkdir()
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.mp4").write_bytes(b"no video")
    (tmp_path / "prices.yaml").write_text(PRICES)
    (tmp_path / "wrong.yaml").write_text(PRICES.replace("currency", "curency"))
    (tmp_path / "tiny.yaml").write_text("node_types:\n  toy: {cpus: 0.1, memory: 1MiB, price_per_hour: 0.1}\n")
    (tmp_path / "small.yaml").write_text("nodes: {toy: 1}\n")
    (tmp_path / "typo.yaml").write_text("nodes: {cpus: 1}\n")
    light_catalog(str(tmp_path / "listed"), ["a"], shard_size=4)
    light_catalog(str(tmp_path / "gone"), ["a"], shard_size=4)
    light_catalog(str(tmp_path / "gone"), [], shard_size=4)
    names = ("EMPTY", "source", "prices.yaml", "wrong.yaml", "small.yaml", "typo.yaml", "out", "listed", "gone")
    return {name: str(tmp_path / name) for name in names}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: --output"),
        (["--output", "out"], "--recipe is missing"),
        (["--output", "out", "--recipe", "tiny"], "no catalog yet: --source"),
        (["--output", "out", "--recipe", "tiny", "--source", "EMPTY"], "EMPTY"),
        (["--output", "listed", "--recipe", "tiny", "--stages", "embed"], "embed in 1 shards would read is not there"),
        (["--output", "gone", "--recipe", "tiny"], "the catalog is empty"),
        (["--output", "out", "--recipe", "tiny", "--sample", "0"], "must be a whole number of at least 1"),
        (["--output", "out", "--recipe", "tiny", "--stages", "captions"], "no stage 'captions' here"),
        (["--output", "out", "--recipe", "tiny", "--prices", "wrong.yaml"], "did you mean 'currency'"),
        (["--output", "out", "--recipe", "tiny", "--prices", "nowhere.yaml"], "No such file"),
        (["--output", "out", "--recipe", "tiny", "--deadline", "6h"], "--deadline chooses among the node types"),
        (["--output", "out", "--recipe", "tiny", "--prices", "prices.yaml", "--deadline", "x"], "expected a duration"),
        (["--output", "out", "--recipe", "tiny", "--cluster", "small.yaml"], "--prices is missing"),
        (
            ["--output", "out", "--recipe", "tiny", "--prices", "prices.yaml", "--cluster", "typo.yaml"],
            "no node type 'cpus'; did you mean 'cpu'",
        ),
        (
            [
                "--output", "out", "--recipe", "tiny", "--source", "source",
                "--prices", "prices.yaml", "--cluster", "small.yaml", "--set", "decode.pool.num_cpus=0.75",
            ],
            "no room for a worker of decode: together 0.75 CPUs",
        ),
        (
            [
                "--output", "out", "--recipe", "tiny", "--source", "source", "--prices", "prices.yaml",
                "--deadline", "6h", "--set", "caption.pool.num_gpus=1",
            ],
            "no node type in the price table holds a worker of caption",
        ),
    ],
)  # fmt: skip
def test_a_wrong_argument_gets_one_clear_line_and_exit_code_2(
    places: dict[str, str], arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refusal(lambda: run_command(plan.main, [places.get(one, one) for one in arguments]), message, capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file"),
        ("a: 1", "is no plan of jobs.plan: plan_id: field"),
        ("a: [", "is no plan"),
        ("a,b\n1,2\n", "is no plan of jobs.plan\n"),
    ],
)
def test_a_wrong_plan_gets_one_clear_line(
    tmp_path: Path, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.yaml"
    if text is not None:
        file.write_text(text)
    assert run_command(annotate.main, ["--output", str(tmp_path / "out"), "--plan", str(file)]) == 2
    assert message in capsys.readouterr().err


ASKED = datetime(2026, 11, 27, 5, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("deadline", "took", "left"),
    [
        ("1h30m", 600, 5400),
        ("2026-11-27T06:00+00:00", 600, 3000),
        (f"{ASKED.astimezone() + timedelta(hours=1):%H:%M}", 600, 3000),
        (f"{ASKED.astimezone() - timedelta(hours=1):%H:%M}", 600, 82_200),
        (f"{ASKED.astimezone():%H:%M}", 600, 85_800),
    ],
)
def test_a_moment_does_not_wait_for_the_probe_and_a_duration_does(deadline: str, took: float, left: float) -> None:
    assert plan.left_seconds(deadline, ASKED, ASKED + timedelta(seconds=took)) == left


@pytest.mark.parametrize("deadline", ["2026-11-27T05:10+00:00", f"{ASKED.astimezone() + timedelta(minutes=10):%H:%M}"])
def test_a_moment_that_passes_during_the_probe_is_told(deadline: str) -> None:
    """A time of day is not the next day's then."""
    with pytest.raises(UserError, match=r"passed while the sample ran; a smaller --sample"):
        plan.left_seconds(deadline, ASKED, ASKED + timedelta(minutes=10))


def test_the_command_that_is_printed_runs_what_was_planned() -> None:
    """Stages left out would run all; a pool's share of a GPU left out would be the recipe's, without a word."""
    asked = ["--output", "out", "--recipe", "tiny"]
    bare = "python -m jobs.annotate --output out --plan out/plans/x.yaml"
    assert plan.run_command_of(plan.options_of(asked), "out/plans/x.yaml") == bare
    more = [
        "--config", "my config.yaml", "--stages", "decode,embed", "--set", "embed.pool.num_gpus=0.2",
        "--set", "embed.pool.max_actors=3",
    ]  # fmt: skip
    printed = plan.run_command_of(plan.options_of([*asked, *more]), "out/plans/x.yaml")
    assert printed == f"{bare} --config 'my config.yaml' --stages decode,embed --set embed.pool.num_gpus=0.2"
    annotate.options_of(shlex.split(printed)[3:])


@pytest.mark.engine
def test_a_source_is_planned_for_the_cheapest_cluster_and_the_plan_is_run(tmp_path: Path) -> None:
    """The stages that need no engine, on real clips. The plan commits nothing; of a moment an hour ahead the probe's
    time is over. Its run has a worker for each of the two blocks that six clips make."""
    source, output = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for number in range(6):
        make_clip(source / f"clip{number}.mp4", seconds=1.0 + number % 2)
    (tmp_path / "prices.yaml").write_text(PRICES.replace("cpus: 1,", "cpus: 64,"))
    deadline = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    done = command(
        "plan", "--source", str(source), "--output", str(output), "--recipe", "tiny", "--stages", "decode",
        "--prices", str(tmp_path / "prices.yaml"), "--deadline", deadline.isoformat(), "--sample", "4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "6 items to do, 4 of them sampled" in done.stdout
    for line in ("Cluster", "Bottleneck", "Rows/s", "Time", "GPU-hours", "Cost", "committed nothing", "Run it"):
        assert line in done.stdout
    (file,) = (output / "plans").iterdir()
    begun = datetime.strptime(file.name.partition("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    said = [re.search(rf"{words} (\d+):(\d\d)\b", done.stdout) for words in ("Deadline     in", "The probe took")]
    left, probing = (60 * int(one[1]) + int(one[2]) for one in said if one is not None)
    assert 0 < left <= (deadline - begun).total_seconds() - probing
    written = yaml.safe_load(file.read_text())
    assert written["recipe"] == "tiny"
    assert written["items"] == 6
    assert written["nodes"] == {"toy": 1}
    assert written["overrides"] == {"decode": {"pool": {"min_actors": 2, "max_actors": 2}}}
    assert written["cost"]["low"] <= written["cost"]["middle"] <= written["cost"]["high"]
    catalog = Catalog.open(Store.open(str(output)))
    assert catalog is not None
    assert catalog.item_count == 6
    assert not (output / "stages").exists()
    done = command("annotate", "--output", str(output), "--stages", "decode", "--plan", str(file))
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = (output / "runs").iterdir()
    report = json.loads((run / "report.json").read_text())
    assert (report["items_run"], report["items_with_errors"]) == (6, 0)
    # Not the report's workers: six small clips may be done before the second lives.
    assert tiny().decode.pool.max_actors == 1
    assert "workers of decode to begin with: decode 2\n" in done.stderr
    assert report["plan"]["plan_id"] == file.stem
    markdown = (run / "report.md").read_text()
    assert f"## Plan {file.stem} against actual" in markdown
    assert re.search(r"^\| decode: seconds an item \| \S+ \(.* to .*\) \| \S+ \|$", markdown, re.MULTILINE)
    assert re.search(r"^\| decode: workers, busy \| 2, \d+% \| [12], \d+% \|$", markdown, re.MULTILINE)
