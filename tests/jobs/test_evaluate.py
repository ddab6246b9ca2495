"""`jobs.evaluate` from files to the table: the real Ray, the real models, on a small world that can be learned."""

import json
from pathlib import Path

import numpy as np
import pytest

from jobs.cli import run_command
from jobs.evaluate import main, options_of
from storage.stores import Store
from tests.jobs.refused import check_refusal
from tests.recsys.data import topic_world
from tests.releases import write_release

FAST = ["--set", "threads=1"] + [
    argument
    for model in ("sasrec", "two_towers")
    for setting in ("model.dim=16", "train.epochs=5", "train.batch_users=32", "train.learning_rate=5e-3")
    for argument in ("--set", f"{model}.{setting}")
]


def world(folder: Path) -> list[str]:
    """A release with views `metadata` and `video`, interactions, and vectors from elsewhere; the arguments for them."""
    events, features = topic_world(users=150, items=60)
    ids = [f"v{item:03d}" for item in range(60)]
    noise = np.random.default_rng(1).normal(size=features.shape).astype(np.float32)
    durations: dict[str, float | None] = {one: 20.0 + number % 40 for number, one in enumerate(ids)}
    write_release(folder / "described", "may", ids, {"metadata": noise, "video": features}, durations=durations)
    lines = [
        f"{events.user_ids[u]},{events.item_ids[i]},{time}"
        for time, (u, i) in enumerate(zip(events.users, events.items, strict=True))
    ]
    (folder / "events.csv").write_text("\n".join(["user,item,time", *lines, "u0001,gone,5", "lonely,v001,1"]) + "\n")
    np.save(folder / "clap.npy", features[::-1])
    (folder / "clap.txt").write_text("\n".join(ids[::-1]))
    return [
        "--release", f"{folder}/described", "--interactions", f"{folder}/events.csv",
        "--features", f"clap={folder}/clap.npy,{folder}/clap.txt",
        "--rows", "id", "metadata", "video", "id+clap", "--seeds", "2", *FAST,
    ]  # fmt: skip


@pytest.mark.engine
@pytest.mark.usefixtures("light_ray")
def test_the_table_is_made_and_only_missing_cells_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = world(tmp_path)
    assert main(arguments) == 0
    output = tmp_path / "described" / "evaluations" / "may"
    table = json.loads((output / "table.json").read_text())
    assert (table["cells"], table["cells_reused"]) == (1 + 2 + 2 * 2 * 4, 0)
    assert table["exclusions"]["unknown_events"] == 1
    assert table["exclusions"]["short_users"] == 1
    rates = {(one["model"], one["row"]): one["test"]["hit_rate@10"]["mean"] for one in table["entries"]}
    # What tells the topic is worth more than noise, and noise as features is worth little.
    for model in ("content", "sasrec", "two_towers"):
        assert rates[model, "video"] > rates[model, "metadata"] + 0.1
    video = next(one for one in table["entries"] if (one["model"], one["row"]) == ("two_towers", "video"))
    assert video["hit_rate_against"]["low"] > 0
    assert video["slices"]["long"]["users"] + video["slices"]["short"]["users"] == video["slices"]["all"]["users"]
    assert (output / "table.md").read_text() in capsys.readouterr().out
    assert (output / "table.png").read_bytes().startswith(b"\x89PNG")

    cells = sorted((output / "cells").iterdir())
    before = {path.name: path.read_bytes() for path in cells}
    cells[4].unlink()
    cells[9].unlink()
    assert main(arguments) == 0
    again = json.loads((output / "table.json").read_text())
    assert again["cells_reused"] == table["cells"] - 2
    assert {path.name for path in (output / "cells").iterdir()} == set(before)
    same = [path for path in (output / "cells").iterdir() if path.read_bytes() == before[path.name]]
    assert len(same) >= table["cells"] - 2
    assert {(one["model"], one["row"]): one["test"]["hit_rate@10"]["mean"] for one in again["entries"]} == rates
    # As asked for, whatever was done first or is there already.
    rows = ("id", "metadata", "video", "id+clap")
    order = [("popularity", "-"), ("content", "metadata"), ("content", "video")]
    order += [(model, row) for row in rows for model in ("two_towers", "sasrec")]
    for one in (table, again):
        assert [(entry["model"], entry["row"]) for entry in one["entries"]] == order
        assert all(entry["seeds"] in ([0], [0, 1]) for entry in one["entries"])


@pytest.mark.engine
@pytest.mark.usefixtures("light_ray")
def test_a_cell_that_fails_is_named_and_the_others_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*world(tmp_path), "--output", f"{tmp_path}/out", "--set", "sasrec.train.learning_rate=1e30"]
    assert main(arguments) == 1
    text = capsys.readouterr().out
    assert "- sasrec video seed 1: ValueError: the loss is no longer finite: the model diverged" in text
    table = json.loads(Store.open(f"{tmp_path}/out").read_bytes("table.json"))
    assert {one["model"] for one in table["entries"]} == {"popularity", "content", "two_towers"}
    assert len(table["failures"]) == 8


@pytest.mark.engine
@pytest.mark.usefixtures("light_ray")
def test_titles_become_metadata_without_a_release(tmp_path: Path) -> None:
    events, _ = topic_world(users=60, items=60)
    words = ["cooking soup", "football goal", "cat asleep", "guitar song", "car race", "makeup tips"]
    titles = [f"v{item:03d},{words[item % 6] if item != 7 else ''}" for item in range(60)]
    (tmp_path / "titles.csv").write_text("\n".join(["video_id,title", *titles]) + "\n")
    sequences: dict[str, list[str]] = {}
    for user, item in zip(events.users, events.items, strict=True):
        sequences.setdefault(events.user_ids[user], []).append(events.item_ids[item])
    (tmp_path / "pairs.tsv").write_text("".join(f"{user}\t{' '.join(items)}\n" for user, items in sequences.items()))
    arguments = ["--titles", f"{tmp_path}/titles.csv", "--encoder", "tiny:bert", "--output", f"{tmp_path}/out"]
    arguments += ["--interactions", f"{tmp_path}/pairs.tsv", "--rows", "metadata", "--models", "two_towers"]
    assert main([*arguments, "--seeds", "1", *FAST]) == 0
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    (report,) = table["features"]
    assert (report["name"], report["items"], report["missing"]) == ("metadata", 59, 1)
    content = next(one for one in table["entries"] if one["model"] == "content")
    popularity = next(one for one in table["entries"] if one["model"] == "popularity")
    # Items of a topic have one title here, and users stay in their topic.
    assert content["test"]["hit_rate@10"]["mean"] > popularity["test"]["hit_rate@10"]["mean"] + 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--interactions": "none.csv"}, "no such file of interactions"),
        ({"--release": "nowhere"}, "no release"),
        ({"--rows": "sound"}, "no features 'sound'; there are id, metadata, video, clap"),
        ({"--against": "audio"}, "--against audio: no such row"),
        ({"--features": "clap"}, "expected NAME=VECTORS.npy"),
        ({"--features": "metadata={folder}/clap.npy,{folder}/clap.txt"}, "two sources are called metadata"),
        ({"--set": "sasrec.model.dims=3"}, "did you mean 'sasrec.model.dim'"),
        ({"--set": "sasrec.model.dim=15"}, "model: dim must be a multiple of 2 heads, unlike 15"),
        ({"--titles": "titles.csv"}, "--titles and --encoder go together"),
        ({"--config": "none.yaml"}, "--config none.yaml"),
    ],
)
def test_what_the_user_did_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], message: str
) -> None:
    arguments = world(tmp_path)
    for option, value in changes.items():
        text = value.format(folder=tmp_path)
        if option == "--rows":
            arguments = [*arguments, option, text]
        elif option in arguments and option not in ("--set", "--features"):
            arguments[arguments.index(option) + 1] = text
        else:
            arguments += [option, text]
    assert run_command(main, arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_model_named_twice_runs_once() -> None:
    options = options_of(["--interactions", "pairs.tsv", "--models", "sasrec", "two_towers", "sasrec"])
    assert options.models == ["sasrec", "two_towers"]


def test_results_need_a_place(tmp_path: Path) -> None:
    arguments = world(tmp_path)
    release = arguments.index("--release")
    without = [*arguments[:release], *arguments[release + 2 :]]
    assert run_command(main, without) == 2
    # A release's own folder puts them beside releases/, never into it.
    from jobs.evaluate import output_of
    from storage.release_reader import ReleaseReader

    for uri in (f"{tmp_path}/described", f"{tmp_path}/described/releases/may"):
        place = output_of(None, ReleaseReader.open(uri))
        assert place.rstrip("/") == f"{tmp_path}/described/evaluations/may"


def test_wrong_interactions_are_told_before_titles_are_encoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "titles.csv").write_text("video_id,title\na,one\n")
    arguments = [
        "--interactions", str(tmp_path / "none.csv"), "--titles", str(tmp_path / "titles.csv"),
        "--encoder", str(tmp_path / "no_encoder"), "--output", str(tmp_path / "worth"),
    ]  # fmt: skip
    check_refusal(lambda: run_command(main, arguments), "no such file of interactions", capsys)
    assert not (tmp_path / "worth").exists()
