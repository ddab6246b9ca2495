"""The demo picks a recipe by what is in reach, and shows what the newest run made."""

import io
import json
import re
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from jobs.demo import hub_problem, main, plan
from jobs.demo_clips import CLIPS
from jobs.demo_table import DemoRow, describe, newest_fingerprints, read_rows, render
from records.errors import Failure, FailureKind
from records.outcomes import STAGES, AudioTags, Caption, Embedding, Note, Outcome, Transcript, View
from records.schemas import StageRow
from storage.stage_tables import StageTables
from storage.stores import Store
from tests.jobs.described import SHOWN_ROWS, Described, command, items_of

NO_VIEW = View(document="", vector=None, missing="no_audio")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[str]:
    """A hub on loopback that answers every HEAD with the parametrised status."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keeps the test's output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def commit(output: Path, stage: str, fingerprint: str, generation: int, outcomes: dict[str, Outcome | Failure]) -> None:
    rows = [
        StageRow(video_id=key, version=1, generation=generation, outcome=outcome) for key, outcome in outcomes.items()
    ]
    assert StageTables(Store.open(str(output))).commit(stage, fingerprint, "00000000", generation, rows, {})


def report(output: Path, run_id: str, started_at: str, fingerprints: dict[str, str]) -> None:
    content = json.dumps({"started_at": started_at, "fingerprints": fingerprints}).encode()
    assert Store.open(str(output)).create(f"runs/{run_id}/report.json", content)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(("hub", "problem"), [(200, None), (302, None), (503, "it answers 503")], indirect=["hub"])
def test_a_hub_is_in_reach_when_it_answers(hub: str, problem: str | None) -> None:
    assert hub_problem(hub) == problem


@pytest.mark.usefixtures("online")
def test_a_hub_that_nobody_serves_is_out_of_reach() -> None:
    assert "refused" in str(hub_problem("http://127.0.0.1:9"))


@pytest.mark.usefixtures("offline")
def test_without_a_hub_one_plain_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, output = plan(None, None, tmp_path)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "HF_HUB_OFFLINE" in said
    assert "tiny" in said
    assert arguments[arguments.index("--recipe") + 1] == "tiny"
    assert arguments[arguments.index("--output") + 1] == str(output)
    assert (tmp_path / "clips" / "shapes.mp4").is_file()
    assert arguments[arguments.index("--metadata") + 1] == str(tmp_path / "clips" / "titles.csv")


def test_each_source_and_recipe_has_its_own_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = [plan(source, recipe, tmp_path) for source in ("a", "b", None) for recipe in ("tiny", "small")]
    assert len({output for _, output in plans}) == 6
    assert plan("a", "tiny", tmp_path) == plans[0]
    assert "--metadata" not in plans[0][0]
    assert capsys.readouterr().out == ""


def test_a_folder_of_the_users_is_listed_again_but_the_clips_made_here_are_not(tmp_path: Path) -> None:
    for source, again in (("a", ["--refresh"]), (None, [])):
        first, output = plan(source, "tiny", tmp_path)
        output.mkdir(parents=True)
        second, _ = plan(source, "tiny", tmp_path)
        assert [argument for argument in second if argument not in first] == again


def test_rows_come_from_the_newest_run_and_its_highest_generation(tmp_path: Path) -> None:
    failure = Failure(stage="decode", kind=FailureKind.CORRUPT, message="no picture")
    commit(tmp_path, "caption", "old0", 0, {"a": Caption(text="old words"), "b": failure})
    commit(tmp_path, "caption", "new0", 0, {"a": Caption(text="first words"), "b": failure})
    commit(tmp_path, "caption", "new0", 1, {"a": Caption(text="last words"), "b": failure})
    commit(
        tmp_path, "transcribe", "new1", 0, {"a": Transcript(text="", note=Note.NO_SPEECH), "b": Transcript(text="hi")}
    )
    report(tmp_path, "zz-older", "2026-01-01T00:00:00Z", {"caption": "old0"})
    report(tmp_path, "aa-newer", "2026-01-02T00:00:00Z", {"caption": "new0", "transcribe": "new1"})
    store = Store.open(str(tmp_path))
    fingerprints = newest_fingerprints(store)
    assert fingerprints == {"caption": "new0", "transcribe": "new1"}
    rows = read_rows(store, fingerprints, 10)
    assert [(row.video_id, dict(row.cells)) for row in rows] == [
        ("a", {"caption": "last words", "transcribe": "(no speech)"}),
        ("b", {"caption": "error: corrupt at decode", "transcribe": "hi"}),
    ]
    assert [row.video_id for row in read_rows(store, fingerprints, 1)] == ["a"]


def test_an_output_without_a_finished_run_shows_no_rows(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    assert newest_fingerprints(store) == {}
    assert read_rows(store, {}, 10) == []


def test_cells_hold_tags_lengths_and_cut_texts() -> None:
    assert describe(AudioTags(labels=("Music", "Siren", "Speech", "Dog"), scores=(0.9, 0.5, 0.25, 0.1))) == (
        "Music 0.90\nSiren 0.50\nSpeech 0.25"
    )
    vector = View(document="x", vector=np.array([0.6, 0.8], np.float32))
    lengths = describe(Embedding(video=vector, audio=NO_VIEW, metadata=vector, all=vector))
    assert lengths.split("\n")[:2] == ["video 2-d", "audio (no audio)"]
    assert len(describe(Caption(text="word " * 100))) == 120


def test_brackets_of_a_model_are_no_markup() -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(render([DemoRow(video_id="a[0]", cells={"caption": "a [bold]sign[/bold] [/]"})]))
    text = console.export_text()
    assert "a[0]" in text
    assert "a [bold]sign[/bold] [/]" in text


@pytest.mark.engine
def test_the_demo_says_which_recipe_shows_the_first_rows_and_where_everything_lies(described: Described) -> None:
    hub, asked, *_ = lines = described.printed.splitlines()
    assert hub == (
        "No model hub in reach (HF_HUB_OFFLINE is set): recipe tiny, whose random weights make noise for words."
    )
    given = ["python", "-m", "jobs.annotate", *described.arguments[:4], "--output", str(described.output)]
    assert asked == f"$ {shlex.join(given)} --recipe tiny"
    assert {clip.name.partition(".")[0] for clip in CLIPS} <= items_of(described.source)
    first = sorted(list(described.table("decode"))[:SHOWN_ROWS])
    shown = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert [one for one in shown if one] == first
    assert f"{SHOWN_ROWS} of {len(items_of(described.source))} items; --rows N (make demo ROWS=N) shows more" in lines
    for stage in STAGES:
        (folder,) = [line.split()[1] for line in lines if line.split()[:1] == [stage] and "/" in line]
        assert Path(folder).parent == described.output / "stages" / stage
        assert list(Path(folder).glob("*.parquet"))
    assert any(
        line.split() == ["runs", f"{described.output}/runs/", "(report.md", "of", "each", "run)"] for line in lines
    )


@pytest.mark.engine
def test_a_second_demo_has_nothing_to_do_and_shows_the_same_table(described: Described) -> None:
    done = command("demo", "--folder", str(described.folder), "--rows", str(SHOWN_ROWS))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Nothing left to do:" in done.stdout
    table = re.compile(r"┏.*", re.DOTALL)
    assert table.findall(done.stdout) == table.findall(described.printed) != []


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "examples:" in capsys.readouterr().out
