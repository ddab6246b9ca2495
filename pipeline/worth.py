"""The grid's results as one table: means, deviations over seeds, slices, and a bootstrap against one row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.cells import Cell, CellResult, Cost
from pipeline.evaluation import EvaluationData
from recsys.bootstrap import Comparison, paired_bootstrap
from recsys.features import FeatureReport
from recsys.measure import CUTOFFS
from recsys.metrics import gains, hits
from recsys.protocol import Exclusions
from recsys.slices import SliceConfig, target_slices

COMPARED_K = CUTOFFS[0]
MEASURES = ("hit_rate", "ndcg", "coverage", "recommended_popularity", "popularity_lift")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A measure over seeds."""

    mean: float
    deviation: float | None
    """Sample standard deviation; None for one seed."""

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value a seed."""
        return cls(mean=float(np.mean(values)), deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceResult:
    """HR and nDCG at `COMPARED_K` over some users."""

    users: int
    hit_rate: Spread
    ndcg: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model with one row of features."""

    model: str
    row: str
    seeds: tuple[int, ...]
    test: Mapping[str, Spread]
    """`hit_rate@10`, `ndcg@10`, … for each of `MEASURES` and cutoffs."""
    validation: Mapping[str, Spread]
    slices: Mapping[str, SliceResult]
    hit_rate_against: Comparison | None
    """HR@10 against the table's row `against`, of the same model."""
    ndcg_against: Comparison | None
    costs: tuple[Cost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorthTable:
    """Everything a person or a program wants to know of a grid."""

    interactions: str
    release: str
    """Empty without one."""
    items: int
    exclusions: Exclusions
    features: tuple[FeatureReport, ...]
    against: str | None
    """The row that the others are compared with."""
    entries: tuple[Entry, ...]
    failures: Mapping[str, str]
    slice_config: SliceConfig
    cpu_seconds: float
    gpu_seconds: float
    cells: int
    cells_reused: int
    """Of an earlier run; their costs are counted as they were then."""
    settings: Mapping[str, object] = field(default_factory=dict)

    def entry(self, model: str, row: str) -> Entry | None:
        """A model's row."""
        return next((one for one in self.entries if (one.model, one.row) == (model, row)), None)


def entries_of(
    results: Mapping[Cell, CellResult], data: EvaluationData, slices: SliceConfig, against: str | None
) -> tuple[Entry, ...]:
    """Results grouped by model and row, in the order of the cells.

    Args:
        results: Those that there are.
        data: What they were measured on.
        slices: Where slices begin.
        against: The row of each model that its others are compared with, if it has results.
    """
    groups: dict[tuple[str, str], list[CellResult]] = {}
    for cell, result in results.items():
        groups.setdefault((cell.model, cell.row_name), []).append(result)
    users = target_slices(data.split.targets("test"), data.split.training_counts(), data.durations_seconds, slices)
    entries: list[Entry] = []
    for (model, row), group in groups.items():
        baseline = groups.get((model, against)) if against is not None and row != against else None
        entries.append(
            Entry(
                model=model,
                row=row,
                seeds=tuple(result.cell.seed for result in group),
                test=_spreads(group, "test"),
                validation=_spreads(group, "validation"),
                slices={name: _slice(group, inside) for name, inside in users.items() if inside.any()},
                hit_rate_against=None if baseline is None else paired_bootstrap(_hits(group), _hits(baseline)),
                ndcg_against=None if baseline is None else paired_bootstrap(_gains(group), _gains(baseline)),
                costs=tuple(result.cost for result in group),
            )
        )
    return tuple(entries)


def _spreads(group: Sequence[CellResult], part: str) -> Mapping[str, Spread]:
    cutoffs = [result.test if part == "test" else result.validation for result in group]
    return {
        f"{measure}@{k}": Spread.of([float(getattr(one[place], measure)) for one in cutoffs])
        for place, k in enumerate(CUTOFFS)
        for measure in MEASURES
    }


def _slice(group: Sequence[CellResult], inside: npt.NDArray[np.bool_]) -> SliceResult:
    return SliceResult(
        users=int(inside.sum()),
        hit_rate=Spread.of([float(hits(one.ranks[inside], COMPARED_K).mean()) for one in group]),
        ndcg=Spread.of([float(gains(one.ranks[inside], COMPARED_K).mean()) for one in group]),
    )


def _hits(group: Sequence[CellResult]) -> npt.NDArray[np.float64]:
    """(U,) each user's mean over seeds."""
    return np.asarray(np.mean([hits(result.ranks, COMPARED_K) for result in group], axis=0), dtype=np.float64)


def _gains(group: Sequence[CellResult]) -> npt.NDArray[np.float64]:
    return np.asarray(np.mean([gains(result.ranks, COMPARED_K) for result in group], axis=0), dtype=np.float64)
