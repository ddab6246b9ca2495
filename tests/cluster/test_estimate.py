"""Intervals hold the truth about as often as they say, and shrink where nothing is left to chance."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.estimate import LEVEL, DurationClass, Interval, Wave, duration_classes, estimate, predict
from cluster.loads import Cluster, StageLoad
from cluster.packing import Need, NodeType
from cluster.sizing import size_pools


@given(seconds=st.lists(st.floats(0, 5000), min_size=1, max_size=100))
def test_every_item_is_in_one_class_and_none_is_tiny(seconds: list[float]) -> None:
    classes, indices = duration_classes(seconds)
    assert sum(one.items for one in classes) == len(seconds)
    assert [(indices == number).sum() for number in range(len(classes))] == [one.items for one in classes]
    assert len(classes) == 1 or min(one.items for one in classes) >= max(2, len(seconds) // 8)
    for value, index in zip(seconds, indices, strict=True):
        assert classes[index].start_seconds <= value < classes[index].end_seconds


def test_classes_name_their_durations() -> None:
    classes, _ = duration_classes([5.0] * 10 + [30.0] * 10 + [2000.0] * 10)
    assert [str(one) for one in classes] == ["0 to 15 s", "15 to 60 s", "60 s and more"]
    assert [str(one) for one in duration_classes([3.0])[0]] == ["all"]


def probe(random: np.random.Generator, durations: np.ndarray, noise: float) -> tuple[list[DurationClass], list[Wave]]:
    """What a probe would measure of clips whose cost is half their duration, give or take."""
    costs = 0.5 * durations * random.lognormal(0, noise, size=len(durations))
    classes, indices = duration_classes(durations.tolist())
    waves: list[Wave] = []
    for number in range(len(classes)):
        rows = costs[indices == number]
        for part in np.array_split(rows, 2):
            if len(part):
                waves.append(Wave(class_index=number, rows=len(part), seconds=float(part.sum())))
    return classes, waves


@pytest.mark.parametrize("noise", [0.05, 0.6])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(noise: float) -> None:
    random = np.random.default_rng(7)
    hits, trials = 0, 120
    truth = 0.5 * float(np.exp(3 + 0.8**2 / 2)) * float(np.exp(noise**2 / 2))  # means of lognormals
    for seed in range(trials):
        classes, waves = probe(random, random.lognormal(3, 0.8, size=64), noise)
        cost = estimate(classes, {"decode": waves}, 1e9, seed)["decode"]
        interval = Interval.of(cost.seconds, cost.seconds_draws)
        hits += interval.low <= truth <= interval.high
    assert LEVEL - 0.12 <= hits / trials <= LEVEL + 0.07


def test_a_sample_of_everything_leaves_only_the_measuring() -> None:
    random = np.random.default_rng(3)
    classes, waves = probe(random, random.choice([5.0, 30.0, 120.0], size=64), 0.0)
    whole, part = (estimate(classes, {"decode": waves}, size, 0)["decode"].seconds_draws.std() for size in (64, 1e9))
    assert whole < 1e-9
    assert part > 1.0


def sampled(*items: int) -> list[DurationClass]:
    """Classes of so many items, each of another duration."""
    return [
        DurationClass(start_seconds=10.0 * number, end_seconds=10.0 * number + 10, items=count)
        for number, count in enumerate(items)
    ]


def test_the_estimate_weighs_classes_by_their_share() -> None:
    waves = [Wave(class_index=0, rows=30, seconds=30.0, cpu_seconds=6.0), Wave(class_index=1, rows=10, seconds=90.0)]
    cost = estimate(sampled(30, 10), {"caption": waves}, 1e6, 0)["caption"]
    assert cost.seconds == pytest.approx(0.75 * 1.0 + 0.25 * 9.0)
    assert cost.cpu_seconds == pytest.approx(0.75 * 0.2)


def test_a_stage_that_only_some_items_need_costs_them_what_they_take() -> None:
    """Long clips alone need it: the short ones neither make it cheaper nor less sure."""
    waves = [Wave(class_index=1, rows=4, seconds=40.0, cpu_seconds=8.0) for _ in range(2)]
    cost = estimate(sampled(56, 8), {"caption": waves}, 1e6, 0)["caption"]
    assert cost.seconds == pytest.approx(10.0)
    assert cost.cpu_seconds == pytest.approx(2.0)
    drawn = cost.seconds_draws[cost.seconds_draws > 0]
    assert len(drawn) > 1990  # in the others no long clip was drawn
    assert drawn == pytest.approx(10.0)


def test_a_class_counts_for_a_stage_as_often_as_its_items_need_it() -> None:
    waves = [Wave(class_index=0, rows=4, seconds=4.0), Wave(class_index=1, rows=8, seconds=80.0)]
    cost = estimate(sampled(56, 8), {"caption": waves}, 64, 0)["caption"]
    assert cost.seconds == pytest.approx((4.0 + 80.0) / 12)
    assert cost.seconds_draws == pytest.approx(cost.seconds)  # the sample is all there is


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    means=st.lists(st.floats(0.01, 100), min_size=5, max_size=5),
    seed=st.integers(0, 99),
)
def test_where_all_items_need_a_stage_classes_count_by_their_share_alone(
    counts: list[int], means: list[float], seed: int
) -> None:
    waves = [Wave(class_index=n, rows=count, seconds=count * means[n]) for n, count in enumerate(counts)]
    cost = estimate(sampled(*counts), {"decode": waves}, 1e12, seed)["decode"]
    shares = np.asarray(counts) / sum(counts)
    drawn = np.random.default_rng(seed).multinomial(sum(counts), shares, size=len(cost.seconds_draws)) / sum(counts)
    assert cost.seconds == pytest.approx(shares @ means[: len(counts)])
    assert cost.seconds_draws == pytest.approx(drawn @ means[: len(counts)], rel=1e-4)


def test_a_stage_that_no_sampled_item_needs_costs_nothing() -> None:
    cost = estimate([DurationClass(start_seconds=0, end_seconds=np.inf, items=4)], {"embed": []}, 10, 0)["embed"]
    assert (cost.seconds, cost.seconds_draws.max()) == (0.0, 0.0)


def test_a_prediction_is_of_the_slowest_part_in_every_draw() -> None:
    classes = [DurationClass(start_seconds=0, end_seconds=np.inf, items=16)]
    waves = {
        "decode": [Wave(class_index=0, rows=8, seconds=one, cpu_seconds=one) for one in (7.0, 9.0)],
        "caption": [Wave(class_index=0, rows=8, seconds=one) for one in (15.0, 17.0)],
    }
    costs = estimate(classes, waves, 1e6, 0)
    loads = [
        StageLoad(name="decode", need=Need(cpus=1), seconds=1.0, cpu_seconds=1.0, start_seconds=5),
        StageLoad(name="caption", need=Need(cpus=1, gpus=1), seconds=2.0, start_seconds=60, needs_decode=True),
    ]
    sizing = size_pools(loads, Cluster(nodes={NodeType(name="n", cpus=8, gpus=1): 2}), 1000)
    factors = {"decode": 1.0, "caption": 1.0}
    said = predict(sizing, costs, factors, 1000)
    assert said.seconds.middle == pytest.approx(60 + 1000 * 1.0)
    assert said.items_per_second.middle == pytest.approx(1.0)
    assert said.gpu_hours.middle == pytest.approx(2 * 1060 / 3600)
    for interval in (said.seconds, said.items_per_second, said.gpu_hours):
        assert interval.low < interval.middle < interval.high
    assert sizing.workers() == {"decode": 1, "caption": 2}
    busy = [replace(load, start_cpu_seconds=seconds) for load, seconds in zip(loads, (100.0, 750.0), strict=True)]
    slower = replace(sizing, loads=tuple(busy))
    later = predict(slower, costs, factors, 1000)
    loading = (100 + 2 * 750) / 16
    assert slower.seconds(1000) - sizing.seconds(1000) == pytest.approx(loading - 60)
    for one, other in ((later.seconds.low, said.seconds.low), (later.seconds.high, said.seconds.high)):
        assert one - other == pytest.approx(loading - 60)
    assert later.gpu_hours.middle == pytest.approx(2 * (1000 + loading) / 3600)
