"""The main command as a user runs it: real files in, every real engine, Parquet out; and what wrong input gets."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from jobs import annotate
from jobs.cli import run_command
from records.outcomes import STAGES
from tests.actors.reference_decode import reference, sound_seconds
from tests.jobs.described import Described, command, items_of
from tests.jobs.refused import check_refusal

BROKEN = {"broken", "corrupted"}
"""The only items that are truly broken: one made here, one of the real clips."""


@pytest.mark.engine
class TestDescribed:
    """One run over every kind of stream, looked at from all sides."""

    @pytest.mark.parametrize("stage", STAGES)
    def test_every_item_has_one_line_in_every_table(self, described: Described, stage: str) -> None:
        assert set(described.table(stage)) == items_of(described.source)

    def test_workers_and_engines_leave_nothing_behind(self, described: Described) -> None:
        assert described.left_behind == set()

    def test_only_what_is_truly_broken_is_an_error(self, described: Described) -> None:
        for stage in STAGES:
            errors = {name: line["error"] for name, line in described.table(stage).items() if line["error"]}
            assert set(errors) <= BROKEN, stage
            assert {error["kind"] for error in errors.values()} <= {"corrupt"}
        decoded = described.table("decode")
        assert decoded["broken"]["error"]["kind"] == "corrupt"
        partly = {name for name, line in decoded.items() if line["video_failure"] or line["audio_failure"]}
        assert partly <= {"corrupted"}
        assert described.table("caption")["broken"]["error"]["stage"] == "decode"

    def test_facts_equal_an_independent_decode_of_the_files(self, described: Described) -> None:
        rotations = {}
        for name, line in described.table("decode").items():
            if name in BROKEN:
                continue
            (file,) = described.source.glob(f"{name}.*")
            data = file.read_bytes()
            with av.open(file) as container:
                assert line["has_video"] == bool(container.streams.video), file.name
                assert line["has_audio"] == bool(container.streams.audio), file.name
            seconds = sound_seconds(data)
            if line["has_video"]:
                whole = reference(data)
                seconds = max(seconds, whole.duration_seconds)
                rotations[name] = line["rotation_degrees"]
                assert line["rotation_degrees"] == -whole.turned % 360, file.name
                assert (line["width"], line["height"]) == whole.display_size, file.name
                spread = np.linspace(0, len(whole.frames) - 1, len(line["frame_times_seconds"]))
                times = [whole.times_seconds[round(index)] for index in spread]
                assert line["frame_times_seconds"] == pytest.approx(times, abs=1e-9), file.name
            # Encoders pad sound to whole frames: its packets may count one more or one less than decoding gives.
            assert line["duration_seconds"] == pytest.approx(seconds, abs=0.03), file.name
        assert (rotations["moving"], rotations["turned"]) == (0, 90)

    def test_a_missing_stream_is_an_empty_result_that_says_so(self, described: Described) -> None:
        assert described.table("caption")["sound"]["note"] == "no_video"
        assert described.table("caption")["sound"]["text"] == ""
        for stage in ("transcribe", "describe_audio", "tag_audio"):
            assert described.table(stage)["mute"]["note"] == "no_audio"
        embedded = described.table("embed")
        assert embedded["sound"]["video"]["vector"] is None
        assert embedded["mute"]["audio"]["vector"] is None
        assert embedded["broken"]["all"]["missing"] == "corrupt"

    def test_texts_and_vectors_are_there_where_the_streams_are(self, described: Described) -> None:
        captions, tags, embedded = (described.table(stage) for stage in ("caption", "tag_audio", "embed"))
        assert captions["moving"]["text"].strip()
        assert captions["moving"]["finish_reason"] in ("stop", "length")
        assert captions["moving"]["prompt_tokens"] > 100
        assert captions["moving"]["text"] != captions["turned"]["text"]
        assert len(tags["moving"]["labels"]) == len(tags["moving"]["scores"]) > 3
        for view in ("video", "audio", "metadata", "all"):
            vector = np.asarray(embedded["moving"][view]["vector"])
            assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
        assert embedded["moving"]["metadata"]["document"] == "A square that moves"
        assert embedded["mute"]["metadata"]["missing"] == "no_title"

    def test_the_report_adds_up(self, described: Described) -> None:
        report_file = min((described.output / "runs").glob("*/report.json"))  # later ones had nothing to do
        report = json.loads(report_file.read_text())
        items = len(items_of(described.source))
        broken = len(items_of(described.source) & BROKEN)
        assert (report["items"], report["items_run"], report["items_with_errors"]) == (items, items, broken)
        for stage in STAGES:
            assert report["stages"][stage]["results"] + report["stages"][stage]["failed"] == items
        assert report["stages"]["caption"]["output_tokens"] > 0
        assert report["versions"]["ray"]
        assert "# Run" in report_file.with_name("report.md").read_text()
        assert f"{items} items = {items - broken} good + {broken} with errors" in described.printed

    def test_status_counts_the_same(self, described: Described) -> None:
        done = command("status", "--output", str(described.output), "--json")
        status = json.loads(done.stdout)
        items = len(items_of(described.source))
        assert status["items"] == items
        assert {stage["stage"]: stage["rows"] for stage in status["stages"]} == dict.fromkeys(STAGES, items)
        assert "corrupt" in command("status", "--output", str(described.output)).stdout

    def test_a_second_run_says_that_nothing_is_left_and_touches_nothing(self, described: Described) -> None:
        before = {file: file.stat().st_mtime_ns for file in (described.output / "stages").rglob("*.parquet")}
        done = command("annotate", "--output", str(described.output), "--recipe", "tiny")
        assert (done.returncode, done.stdout.splitlines()[0][:19]) == (0, "Nothing left to do:")
        assert {file: file.stat().st_mtime_ns for file in (described.output / "stages").rglob("*.parquet")} == before

    def test_prune_names_older_fingerprints_and_removes_them_only_when_told(
        self, described: Described, tmp_path: Path
    ) -> None:
        output = tmp_path / "out"
        shutil.copytree(described.output, output)
        arguments = ("--output", str(output), "--recipe", "tiny", "--set", "caption.prompt=Another one?")
        assert "nothing to remove" in command("prune", *arguments[:4]).stdout
        said = command("prune", *arguments).stdout
        assert "caption" in said
        assert "embed" in said
        assert "nothing was removed" in said
        assert list((output / "stages" / "caption").rglob("*.parquet"))
        assert "removed 2 files" in command("prune", *arguments, "--yes").stdout
        assert not list((output / "stages" / "caption").rglob("*.parquet"))
        assert list((output / "stages" / "decode").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "tiny"], "required: --output"),
        (["--output", "OUT"], "--recipe is missing"),
        (["--output", "OUT", "--recipe", "tiny"], "no catalog yet: --source"),
        (["--output", "OUT", "--recipe", "tiny", "--source", "OUT/nowhere"], "nowhere"),
        (["--output", "OUT", "--recipe", "tiny", "--source", "EMPTY"], "EMPTY"),
        (["--output", "OUT", "--recipe", "tiny", "--set", "caption.promt=x"], "did you mean 'caption.prompt'"),
        (["--output", "OUT", "--recipe", "tiny", "--config", "OUT/none.yaml"], "No such file"),
        (["--output", "OUT", "--recipe", "tiny", "--prices", "OUT/none.yaml"], "No such file"),
        (["--output", "OUT", "--recipe", "tiny", "--stages", "captions"], "no stage 'captions' here"),
        (["--output", "OUT", "--recipe", "tiny", "--retry-failed", "timeouts"], "no kind of failure 'timeouts'"),
        (["--output", "OUT", "--recipe", "tiny", "--limit", "0"], "must be a whole number of at least 1"),
        (["--output", "OUT", "--recipe", "tiny", "--deadline", "soon"], "--deadline soon: expected a duration"),
        (["--output", "OUT", "--recipe", "tiny", "--max-gpu-hours", "0"], "must be a number above 0"),
        (
            ["--output", "OUT", "--recipe", "tiny", "--max-gpu-hours", "5"],
            "no stage that this run could start takes a GPU",
        ),
        (["--output", "OUT", "--recipe", "tiny", "--shard-range", "5"], "expected A:B"),
        (["--output", "OUT", "--recipe", "tiny", "--shard-range", "5:5"], "holds no shard"),
        (["--output", "OUT", "--recipe", "tiny", "--shard-range", "0:5"], "list with `python -m jobs.catalog` before"),
        (["--output", "nope://x/y", "--recipe", "tiny"], "nope"),
    ],
)
def test_a_wrong_argument_gets_one_clear_line_and_exit_code_2(
    tmp_path: Path, arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "EMPTY").mkdir()
    places = {"OUT": str(tmp_path / "out"), "EMPTY": str(tmp_path / "EMPTY")}
    filled = [places.get(one, one.replace("OUT/", f"{tmp_path}/out/")) for one in arguments]
    check_refusal(lambda: run_command(annotate.main, filled), message, capsys)
    assert not (tmp_path / "out").exists()


def test_status_and_prune_of_nothing_say_so(tmp_path: Path) -> None:
    for name, more in (("status", []), ("prune", ["--recipe", "tiny"])):
        done = command(name, "--output", str(tmp_path / "out"), *more)
        assert done.returncode == 2
        assert "has no catalog" in done.stderr


def test_catalog_lists_and_lists_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a", "b"):
        (source / f"{name}.mp4").write_bytes(name.encode())
    arguments = ("--source", str(source), "--output", str(tmp_path / "out"))
    assert "2 new, 0 changed" in command("catalog", *arguments).stdout
    (source / "b.mp4").write_bytes(b"other")
    (source / "c.mp4").write_bytes(b"c")
    (source / "a.mp4").unlink()
    assert "1 new, 1 changed, 1 deleted, 0 unchanged" in command("catalog", *arguments).stdout
