"""Release, interactions and a user's vectors meet on one catalogue; rows and cells are what was asked for."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.cells import Arm, Cell, cell_path
from pipeline.config import apply_overrides, parse_settings
from pipeline.evaluation import BroughtFeatures, EvaluateConfig, grid_cells, load_data, parse_rows, source_names
from records.errors import UserError
from recsys.interactions import Interactions, read_interactions
from recsys.model import ModelConfig
from recsys.protocol import ProtocolConfig
from recsys.train import TrainConfig
from storage.release_reader import ReleaseReader
from tests.releases import write_release

IDS = [f"v{item}" for item in range(30)]
VECTORS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def interactions(folder: Path, text: str = "u1\tv1 v2 v3 v4\nu2\tv5 v6 gone v7 v5\nu3\tv9\n") -> Interactions:
    (folder / "pairs.tsv").write_text(text)
    return read_interactions(str(folder / "pairs.tsv"))


def release(folder: Path) -> ReleaseReader:
    durations = {one: float(number) if number != 3 else None for number, one in enumerate(IDS)}
    write_release(folder, "may", IDS, {"video": VECTORS, "metadata": VECTORS[::-1]}, durations=durations)
    return ReleaseReader.open(str(folder))


def test_everything_lies_in_the_catalogues_order(tmp_path: Path) -> None:
    np.save(tmp_path / "clap.npy", VECTORS[:2] + np.array([[1.0], [np.nan]]))
    (tmp_path / "ids.txt").write_text("v8\nv9\n")
    (tmp_path / "more.npy").write_bytes((tmp_path / "clap.npy").read_bytes())
    (tmp_path / "all_ids.txt").write_text("\n".join(IDS[:2]))
    brought = [
        BroughtFeatures.parse(f"clap={tmp_path}/clap.npy,{tmp_path}/ids.txt"),
        BroughtFeatures.parse(f"more={tmp_path}/more.npy,{tmp_path}/all_ids.txt"),
    ]
    data = load_data(
        interactions=interactions(tmp_path), release=release(tmp_path), brought=brought, protocol=ProtocolConfig()
    )
    assert list(data.catalogue.item_ids) == sorted(IDS)
    assert list(data.features) == ["video", "metadata", "clap", "more"]
    present = np.flatnonzero(data.features["clap"].present)
    assert [data.catalogue.item_ids[item] for item in present] == ["v8"]
    assert data.features["clap"].report.not_finite == 1
    assert data.durations_seconds is not None
    assert data.durations_seconds[data.catalogue.indices(["v12"])[0]] == 12
    assert np.isnan(data.durations_seconds[data.catalogue.indices(["v3"])[0]])
    out = data.exclusions
    assert (out.unknown_events, out.unknown_items, out.repeated_events, out.short_users, out.kept_users) == (
        1, 1, 1, 1, 2,
    )  # fmt: skip


def test_what_no_row_reads_is_not_loaded(tmp_path: Path) -> None:
    reader = release(tmp_path)
    brought = [BroughtFeatures.parse(f"clap={tmp_path}/none.npy")]
    (tmp_path / "releases" / "may" / "vectors" / "video.npy").unlink()
    assert source_names(reader.views(), brought) == ["video", "metadata", "clap"]

    def load(sources: set[str] | None) -> list[str]:
        data = load_data(
            interactions=interactions(tmp_path), release=reader, brought=brought,
            protocol=ProtocolConfig(), sources=sources,
        )  # fmt: skip
        return list(data.features)

    assert load({"id", "metadata"}) == ["metadata"]
    assert load({"id"}) == []
    for sources, message in [({"clap"}, "none.npy: no such file of vectors"), (None, "video.npy: no such file")]:
        with pytest.raises(UserError, match=message):
            load(sources)


def test_a_catalogue_that_is_too_small_for_lists_is_told_before_anything_runs(tmp_path: Path) -> None:
    data = load_data(
        interactions=interactions(tmp_path), release=release(tmp_path), brought=[], protocol=ProtocolConfig()
    )
    data.check_size(ProtocolConfig(last_items=11))
    with pytest.raises(UserError, match=r"30 items are too few .* lists of 20 beside histories of up to 12 take 32"):
        data.check_size(ProtocolConfig())


def test_without_a_release_the_catalogue_is_the_interactions(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", VECTORS)
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    brought = [BroughtFeatures.parse(f"metadata={tmp_path}/t.npy,{tmp_path}/ids.txt")]
    data = load_data(interactions=interactions(tmp_path), release=None, brought=brought, protocol=ProtocolConfig())
    assert data.catalogue.item_ids == ("gone", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v9")
    report = data.features["metadata"].report
    assert (report.items, report.missing, report.unknown) == (8, 1, 22)
    assert data.durations_seconds is None


def test_ids_of_another_release_and_two_sources_of_one_name_are_errors(tmp_path: Path) -> None:
    reader = release(tmp_path)
    np.save(tmp_path / "v.npy", VECTORS)
    with pytest.raises(UserError, match="two sources are called video"):
        load_data(
            interactions=interactions(tmp_path),
            release=reader,
            brought=[BroughtFeatures.parse(f"video={tmp_path}/v.npy")],
            protocol=ProtocolConfig(),
        )
    with pytest.raises(UserError, match="not those of the catalogue"):
        load_data(
            interactions=interactions(tmp_path, "u\t1 2 3 v4\n"),
            release=reader,
            brought=[],
            protocol=ProtocolConfig(),
        )


@pytest.mark.parametrize("text", ["clap", "=a.npy", "clap=", "clap=a.npy,", "id=a.npy", "a+b=a.npy"])
def test_features_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--features"):
        BroughtFeatures.parse(text)


def test_rows_are_parsed_and_checked() -> None:
    sources = ["video", "metadata"]
    assert parse_rows(None, sources) == [("id",), ("video",), ("metadata",), ("id", "video"), ("id", "metadata")]
    assert parse_rows(["id+video+metadata", "video", "video"], sources) == [("id", "video", "metadata"), ("video",)]
    for rows, message in [(["sound"], "no features 'sound'; there are id, video, metadata"), (["id+id"], "twice")]:
        with pytest.raises(UserError, match=message):
            parse_rows(rows, sources)


def test_cells_are_the_floor_and_every_combination() -> None:
    rows = [("id",), ("video",), ("id", "video")]
    cells = grid_cells(["sasrec", "two_towers"], rows, EvaluateConfig(seeds=2))
    assert len(cells) == len(set(cells)) == 2 + 2 * 3 * 2
    assert [str(cell) for cell in cells[:3]] == ["popularity - seed 0", "content video seed 0", "sasrec id seed 0"]


def test_a_cells_name_says_what_can_change_it() -> None:
    def path(cell: Cell, arm: Arm, split: str = "s", **features: str) -> str:
        return cell_path(cell, arm, split, features)

    cell, arm = Cell(model="sasrec", row=("id", "video"), seed=1), Arm(model=ModelConfig(name="sasrec"))
    base = path(cell, arm, video="v", audio="a")
    assert path(cell, Arm(model=arm.model, train=TrainConfig(device="cuda")), video="v", audio="other") == base
    others = [
        path(cell, Arm(model=ModelConfig(name="sasrec", dim=8)), video="v"),
        path(cell, Arm(model=arm.model, train=TrainConfig(epochs=1)), video="v"),
        path(cell, arm, "t", video="v"),
        path(cell, arm, video="w"),
        path(Cell(model="sasrec", row=("id", "video"), seed=2), arm, video="v"),
        path(Cell(model="sasrec", row=("video",), seed=1), arm, video="v"),
        path(Cell(model="two_towers", row=("id", "video"), seed=1), arm, video="v"),
    ]
    assert len({base, *others}) == 8


def test_settings_reach_every_field_and_wrong_ones_are_named() -> None:
    settings = parse_settings(["sasrec.model.dim=32", "two_towers.train.epochs=3", "slices.long_seconds=60", "seeds=1"])
    config = apply_overrides(EvaluateConfig(), settings)
    assert (config.sasrec.model.dim, config.two_towers.train.epochs) == (32, 3)
    assert (config.slices.long_seconds, config.seeds) == (60.0, 1)
    for setting, message in [
        ("sasrec.model.dims=3", "did you mean 'sasrec.model.dim'"),
        ("sasrec.train.epochs=0", "at least 1"),
        ("sasrec.model.loss=hinge", "sasrec.model.loss"),
        ("sasrec.model.name=two_towers", "fixed"),
    ]:
        with pytest.raises(UserError, match=message):
            apply_overrides(EvaluateConfig(), parse_settings([setting]))
