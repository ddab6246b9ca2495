"""What a sample says of a whole catalogue, and how sure that is: by duration classes, with an interval. Pure.

A stage's cost for an item that needs it is its mean over the duration classes, each with its share of the sampled items
that needed the stage. Two things make it unsure: which durations the sample happened to hold, whose shares are drawn
again from the sample (bootstrap, Efron 1979), and how far apart the waves of one class are, whose pooled variance its
mean is drawn with (Student's t).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cluster.loads import StageLoad
from cluster.sizing import PhaseSize, Sizing

Draws = npt.NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.9
"""Share of all draws that an interval holds."""
EDGES_SECONDS = (15.0, 60.0, 180.0, 600.0)
"""Where one duration class ends and the next begins; classes with few items of the sample are joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DurationClass:
    """Clips that are about as long, from `start_seconds` to below `end_seconds`."""

    start_seconds: float
    end_seconds: float
    items: int
    """Of the sample."""

    def __str__(self) -> str:
        if self.end_seconds == np.inf:
            return f"{self.start_seconds:g} s and more" if self.start_seconds else "all"
        return f"{self.start_seconds:g} to {self.end_seconds:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Items of one class that a worker had at once."""

    class_index: int
    rows: int
    seconds: float
    """In which the worker was busy with them."""
    cpu_seconds: float = 0.0
    """That it and its child processes used of a core meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one stage costs an item that needs it: the estimate, and what it might be as well."""

    seconds: float
    cpu_seconds: float
    seconds_draws: Draws
    """(B,)"""
    cpu_draws: Draws
    """(B,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with the interval that holds `LEVEL` of all draws."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, middle: float, draws: Draws) -> "Interval":
        """The interval by percentiles; it holds the estimate itself."""
        low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(low=min(float(low), middle), middle=middle, high=max(float(high), middle))

    def times(self, factor: float) -> "Interval":
        """All three, times a number above 0."""
        return Interval(low=self.low * factor, middle=self.middle * factor, high=self.high * factor)


def duration_classes(seconds: Sequence[float]) -> tuple[list[DurationClass], npt.NDArray[np.int64]]:
    """Cuts a sample into classes, none with less than an eighth of its items, and says of each item which is its own.

    Args:
        seconds: Duration of each item; 0 where it is not known.
    """
    values = np.asarray(seconds, dtype=np.float64)
    least = max(2, len(values) // 8)
    ends: list[float] = []
    start = 0.0
    for end in (*EDGES_SECONDS, np.inf):
        if np.count_nonzero((values >= start) & (values < end)) >= least:
            ends.append(end)
            start = end
    edges = [0.0, *ends[:-1], np.inf]  # what is left at the end joins the class before
    indices = np.searchsorted(edges[1:-1], values, side="right").astype(np.int64)
    counts = np.bincount(indices, minlength=len(edges) - 1)
    classes = [
        DurationClass(start_seconds=low, end_seconds=high, items=int(count))
        for (low, high), count in zip(itertools.pairwise(edges), counts, strict=True)
    ]
    return classes, indices


def estimate(
    classes: Sequence[DurationClass], waves: Mapping[str, Sequence[Wave]], population: float, seed: int
) -> dict[str, Costs]:
    """Stage to its costs an item that needs it.

    Args:
        classes: The sample's classes.
        waves: Stage to what was measured: all sampled items that need it. A class counts for a stage as often as items
            of it do, so that one without a wave does not count. A stage without any costs nothing.
        population: Items of the catalogue: a sample of all of them leaves nothing to chance but the measuring.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    items = np.asarray([one.items for one in classes], dtype=np.float64)
    size = items.sum()
    shares = items / size
    drawn = random.multinomial(int(size), shares, size=DRAWS) / size
    drawn = shares + (drawn - shares) * np.sqrt(max(1 - size / population, 0.0))
    return {stage: _costs(items, drawn, of, random) for stage, of in waves.items()}


def _costs(items: Draws, drawn: Draws, waves: Sequence[Wave], random: np.random.Generator) -> Costs:
    """One stage's costs.

    Args:
        items: (C,) sampled items of each class.
        drawn: (B, C) shares of the classes that might be as well.
    """
    rows = np.zeros(len(items))
    spent = np.zeros((len(items), 2))
    for wave in waves:
        rows[wave.class_index] += wave.rows
        spent[wave.class_index] += (wave.seconds, wave.cpu_seconds)
    means = spent / np.maximum(rows, 1)[:, None]  # (C, 2)
    spread, freedom = _spread(means, waves)
    scale = np.where(rows > 0, spread / np.sqrt(np.maximum(rows, 1)), 0.0)
    noise = random.standard_t(freedom, size=drawn.shape) if freedom else np.zeros(drawn.shape)
    factors = np.maximum(1 + scale * noise, 0.0)  # (B, C)
    seconds, cpu_seconds = _weights(rows) @ means
    draws = np.einsum("bc,bc,ck->bk", _weights(drawn * (rows / np.maximum(items, 1))), factors, means)
    return Costs(
        seconds=float(seconds), cpu_seconds=float(cpu_seconds), seconds_draws=draws[:, 0], cpu_draws=draws[:, 1]
    )


def _weights(counts: Draws) -> Draws:
    """(..., C) counts as shares of their sum; all 0 where that is 0."""
    whole = counts.sum(axis=-1, keepdims=True)
    shares: Draws = np.divide(counts, whole, out=np.zeros_like(counts), where=whole > 0)
    return shares


def _spread(means: Draws, waves: Sequence[Wave]) -> tuple[float, int]:
    """Relative standard deviation of one item within its class, pooled, and its degrees of freedom."""
    squares, seen = 0.0, dict[int, int]()
    for wave in waves:
        mean = means[wave.class_index, 0]
        if mean > 0:
            squares += wave.rows * (wave.seconds / wave.rows / mean - 1) ** 2
            seen[wave.class_index] = seen.get(wave.class_index, 0) + 1
    freedom = sum(count - 1 for count in seen.values())
    return (float(np.sqrt(squares / freedom)), freedom) if freedom else (0.0, 0)


def cautious(loads: Sequence[StageLoad], costs: Mapping[str, Costs], factors: Mapping[str, float]) -> list[StageLoad]:
    """The loads at the upper end of each stage's interval: what a deadline is held with.

    Args:
        factors: Stage to its share of all items: how many of them need it.
    """
    upper = (1 + LEVEL) / 2
    return [
        replace(
            load,
            seconds=float(np.quantile(costs[load.name].seconds_draws, upper)) * factors[load.name],
            cpu_seconds=float(np.quantile(costs[load.name].cpu_draws, upper)) * factors[load.name],
        )
        for load in loads
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a sizing comes to."""

    seconds: Interval
    """Until all is done, loading included."""
    items_per_second: Interval
    """Once models are loaded, over all phases."""
    gpu_hours: Interval
    """GPUs that workers hold, busy or not, from start to end."""


def predict(sizing: Sizing, costs: Mapping[str, Costs], factors: Mapping[str, float], items: float) -> Prediction:
    """Time and GPU-hours of a sizing with fixed workers, over all that the costs might be.

    Args:
        factors: As for `cautious`.
        items: Items to run.
    """
    loads = {load.name: load for load in sizing.loads}
    seconds, pace, gpu_hours = np.zeros(DRAWS), np.zeros(DRAWS), np.zeros(DRAWS)
    held = 0.0
    for phase in sizing.phases:
        start = sizing.phase_start_seconds(phase)
        took = _seconds_per_item(phase, sizing, costs, factors)
        gpus = sum(count * loads[name].need.gpus for name, count in phase.workers.items())
        pace += took
        seconds += start + items * took
        gpu_hours += gpus * (start + items * took) / 3600
        held += gpus * (start + items / phase.items_per_second) / 3600
    middle = sizing.seconds_per_item
    rates = Interval.of(middle, pace)
    inverse = [1 / value if value else np.inf for value in (rates.high, rates.middle, rates.low)]
    return Prediction(
        seconds=Interval.of(sizing.seconds(items), seconds),
        items_per_second=Interval(low=inverse[0], middle=inverse[1], high=inverse[2]),
        gpu_hours=Interval.of(held, gpu_hours),
    )


def _seconds_per_item(
    phase: PhaseSize, sizing: Sizing, costs: Mapping[str, Costs], factors: Mapping[str, float]
) -> Draws:
    """(B,) seconds of one phase for an item: of its slowest pool, of all cores, or of all GPUs."""
    loads = [load for load in sizing.loads if load.name in phase.workers]
    drawn = {load.name: costs[load.name].seconds_draws * factors[load.name] for load in loads}
    cores = sum(costs[load.name].cpu_draws * factors[load.name] for load in loads) / sizing.cluster.core_count
    slowest = np.maximum(cores, 0.0)
    for load in loads:
        slowest = np.maximum(slowest, drawn[load.name] / phase.workers[load.name])
    for wanted in {load.need.accelerator for load in loads if load.need.gpus}:
        taking = [load for load in loads if load.need.gpus and wanted in (None, load.need.accelerator)]
        of_gpus = sum(drawn[load.name] * np.ceil(load.need.gpus) for load in taking)
        slowest = np.maximum(slowest, of_gpus / sizing.cluster.gpus(wanted))
    return slowest
