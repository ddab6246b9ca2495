"""The table says what its cells say: means, deviations, marks, slices, costs; in three forms."""

import io
import json
from collections.abc import Sequence

import matplotlib.image
import numpy as np
import pytest

from pipeline.cells import Cell, CellResult, Cost, decode_cell, encode_cell
from pipeline.evaluation import EvaluationData
from pipeline.worth import WorthTable, entries_of
from pipeline.worth_markdown import to_json, to_markdown
from pipeline.worth_plot import to_png
from recsys.catalogue import Catalogue
from recsys.interactions import Ints
from recsys.measure import CUTOFFS, LIST_LENGTH, CutoffMeasures
from recsys.metrics import gains, hits
from recsys.protocol import Exclusions
from recsys.slices import SliceConfig
from tests.recsys.data import split_of

USERS = 400
SEQUENCES = [[user % 7, 8 + user % 9, 20 + user % 5] for user in range(USERS)]
DATA = EvaluationData(
    catalogue=Catalogue.of([str(item) for item in range(30)], "here"),
    split=split_of(SEQUENCES, 30),
    exclusions=Exclusions(
        events=1300, unknown_events=10, unknown_items=4, repeated_events=20, older_events=30, short_users=5,
        short_user_events=40, kept_events=1200, kept_users=USERS,
    ),
    features={},
    durations_seconds=np.arange(8, 38).astype(np.float64),
)  # fmt: skip


def result(cell: Cell, share: float, *, epochs: int = 0) -> CellResult:
    """Ranks of which about `share` are hits."""
    rng = np.random.default_rng(abs(hash((cell.row_name, cell.seed))) % 2**32)
    ranks: Ints = np.where(rng.random(USERS) < share, rng.integers(0, 10, USERS), LIST_LENGTH).astype(np.int32)
    measures = tuple(
        CutoffMeasures(
            k=k, hit_rate=float(hits(ranks, k).mean()), ndcg=float(gains(ranks, k).mean()), coverage=0.25,
            recommended_popularity=3.5, popularity_lift=float("nan"),
        )
        for k in CUTOFFS
    )  # fmt: skip
    cost = Cost(cpu_seconds=10.0, gpu_seconds=2.0, seconds=5.0, epochs=epochs, train_cpu_seconds=2.0 * epochs)
    return CellResult(cell=cell, ranks=ranks, test=measures, validation=measures, cost=cost, versions={"torch": "2"})


def table(results: Sequence[CellResult], against: str | None = "metadata") -> WorthTable:
    by_cell = {one.cell: one for one in results}
    return WorthTable(
        interactions="pairs.tsv", release="", items=30, exclusions=DATA.exclusions, features=(), against=against,
        entries=entries_of(by_cell, DATA, SliceConfig(), against), failures={"sasrec all seed 1": "ValueError: no"},
        slice_config=SliceConfig(), cpu_seconds=70.0, gpu_seconds=14.0, cells=7, cells_reused=3,
    )  # fmt: skip


CELLS = [
    result(Cell(model="popularity", row=()), 0.1),
    result(Cell(model="content", row=("metadata",)), 0.2),
    *(result(Cell(model="sasrec", row=("metadata",), seed=seed), 0.3, epochs=4) for seed in range(3)),
    *(result(Cell(model="sasrec", row=("id", "video"), seed=seed), 0.6, epochs=8) for seed in range(3)),
    *(result(Cell(model="two_towers", row=("metadata",), seed=seed), 0.5, epochs=2) for seed in range(1)),
]


def test_a_cell_is_stored_and_read_back() -> None:
    for one in CELLS[:3]:
        back = decode_cell(encode_cell(one))
        assert (back.cell, back.cost, back.versions) == (one.cell, one.cost, one.versions)
        assert np.array_equal(back.ranks, one.ranks)
        assert repr(back.test) == repr(one.test)  # NaN included
        assert encode_cell(back) == encode_cell(one)


def test_entries_are_means_over_seeds_and_comparisons_within_a_model() -> None:
    entries = {(one.model, one.row): one for one in table(CELLS).entries}
    group = [one for one in CELLS if (one.cell.model, one.cell.row) == ("sasrec", ("id", "video"))]
    rates = [float(hits(one.ranks, 10).mean()) for one in group]
    entry = entries["sasrec", "id+video"]
    assert entry.test["hit_rate@10"].mean == pytest.approx(np.mean(rates))
    assert entry.test["hit_rate@10"].deviation == pytest.approx(np.std(rates, ddof=1))
    baseline = entries["sasrec", "metadata"].test["hit_rate@10"].mean
    assert entry.hit_rate_against is not None
    assert entry.hit_rate_against.difference == pytest.approx(entry.test["hit_rate@10"].mean - baseline)
    assert entry.hit_rate_against.significant
    assert entries["sasrec", "metadata"].hit_rate_against is None
    assert entries["popularity", "-"].hit_rate_against is None
    assert entries["two_towers", "metadata"].test["ndcg@10"].deviation is None
    targets = np.array([one[-1] for one in SEQUENCES])
    long = entry.slices["long"]
    assert long.users == int((targets + 8 > 30).sum())
    assert long.hit_rate.mean == pytest.approx(np.mean([hits(one.ranks[targets + 8 > 30], 10).mean() for one in group]))


def test_markdown_shows_it_all() -> None:
    whole = table(CELLS)
    text = to_markdown(whole)
    entry = whole.entry("sasrec", "id+video")
    assert entry is not None
    spread = entry.test["hit_rate@10"]
    assert f"| id+video | \u2013 | \u2013 | {spread.mean:.4f} ± {spread.deviation:.4f} ▲ |" in text
    for part in (
        "400 users, 30 items ranked, 1,200 of 1,300 events kept",
        "10 events on 4 items that are not in the catalogue, 20 repeated events",
        "5 users with fewer than three items (40 events)",
        "| Two-Towers | MLLM video | 0.0489 | \u2013 | arXiv 2508.09789 |",
        "| SASRec | id | 0.0909 | 0.0517 | arXiv 2309.15379 |",
        "In all 70 CPU seconds and 14 GPU seconds for 7 cells, 3 of them stored by an earlier run",
        "- sasrec all seed 1: ValueError: no",
        "long (",
        "content neighbours (metadata)",
    ):
        assert part in text
    assert "nan" not in text
    assert "▲" not in to_markdown(table(CELLS, against=None))


def test_json_is_strict_and_whole() -> None:
    values = json.loads(to_json(table(CELLS)), parse_constant=lambda name: pytest.fail(name))
    assert len(values["entries"]) == 5
    assert values["entries"][0]["test"]["popularity_lift@10"]["mean"] is None
    assert len(values["published"]) == 8


def test_the_plot_is_a_picture_and_the_same_again() -> None:
    png = to_png(table(CELLS))
    pixels = matplotlib.image.imread(io.BytesIO(png))
    assert pixels.shape[1] == 1500
    colours = {tuple(colour) for colour in (pixels[:, :, :3].reshape(-1, 3) * 255).round().astype(int)}
    assert (0x00, 0x79, 0x8C) in colours
    assert to_png(table(CELLS)) == png
