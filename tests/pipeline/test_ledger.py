"""Shares of a ledger add up to all that was held, money to the price of what was held."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.estimate import Interval
from pipeline.ledger import WorkerShape, ledger_markdown, make_ledger, plan_markdown
from pipeline.node_bill import NodeCosts
from pipeline.pool_watch import LOOK_SECONDS, PoolNow, PoolTime, PoolWatch, PoolWorkers
from pipeline.run_plan import ClusterPrices, RunPlan, StagePrediction
from pipeline.stats import StageStats

SECONDS, SHARE = st.just(0.0) | st.floats(1e-3, 1e6), st.floats(0, 1)
PRICES = ClusterPrices(currency="EUR", cluster_per_hour=10.0, gpu_per_hour=4.0, cpu_per_hour=0.05)


@given(
    waiting=SECONDS, loading=SECONDS, ready=SECONDS, idle=SHARE, blocked=SHARE, gate=SHARE, held=SHARE, busy=SECONDS
)  # fmt: skip
def test_shares_are_of_all_that_was_held(
    waiting: float, loading: float, ready: float, idle: float, blocked: float, gate: float, held: float, busy: float
) -> None:
    times = PoolTime(
        waiting_seconds=waiting,
        loading_seconds=loading,
        ready_seconds=ready,
        starved_seconds=ready * idle * (1 - blocked) * (1 - gate),
        gate_seconds=ready * idle * (1 - blocked) * gate,
        blocked_seconds=ready * idle * blocked,
        held_back_seconds=ready * (1 - idle) * held,
    )
    shapes = {"caption": WorkerShape(cpus=1, gpus=0.5)}
    ledger = make_ledger({"caption": StageStats(results=5, busy_seconds=busy)}, {"caption": times}, shapes, PRICES)
    if waiting + loading + ready == 0:
        assert ledger == {}
        return
    line = ledger["caption"]
    shares = [
        line.busy_share, line.starved_share, line.blocked_share, line.gate_share, line.loading_share, line.other_share
    ]  # fmt: skip
    assert sum(shares) == pytest.approx(1.0 if loading + ready else 0.0)
    assert min(shares) >= 0
    assert line.waiting_share == pytest.approx(waiting / (waiting + loading + ready))
    assert line.held_seconds == pytest.approx(loading + ready)
    assert line.gpu_seconds_per_1000 == pytest.approx((loading + ready) * 0.5 / 5 * 1000)
    assert line.price == pytest.approx((loading + ready) / 3600 * 0.5 * 4.0)


def test_a_line_says_what_a_thousand_items_take() -> None:
    times = PoolTime(loading_seconds=100, ready_seconds=900, starved_seconds=300, blocked_seconds=100, most_workers=2)
    stats = StageStats(results=40, failed=10, busy_seconds=450.0, output_tokens=900)
    line = make_ledger({"caption": stats}, {"caption": times}, {"caption": WorkerShape(cpus=1, gpus=1)}, PRICES)[
        "caption"
    ]
    assert (line.busy_share, line.starved_share, line.blocked_share, line.loading_share) == (0.45, 0.3, 0.1, 0.1)
    assert line.other_share == pytest.approx(0.05)
    assert (line.gpu_seconds_per_1000, line.busy_seconds_per_item, line.tokens_per_second) == (20_000.0, 9.0, 2.0)
    assert line.price == pytest.approx(1000 / 3600 * 4.0)
    assert line.price_per_1000 == pytest.approx(1000 / 3600 * 4.0 * 20)


def test_a_pool_without_gpus_costs_its_cpus_and_nothing_where_no_price_is_known() -> None:
    shapes, times = {"decode": WorkerShape(cpus=2, gpus=0)}, {"decode": PoolTime(ready_seconds=3600.0)}
    stats = {"decode": StageStats(results=1)}
    assert make_ledger(stats, times, shapes, PRICES)["decode"].price == pytest.approx(0.1)
    assert make_ledger(stats, times, shapes, None)["decode"].price is None


def test_a_watch_counts_each_state_of_each_worker_for_as_long_as_it_lasts() -> None:
    now = [100.0]
    watch = PoolWatch(clock=lambda: now[0])
    states = [
        (0, PoolNow(stage="caption", pending=3, running=0, idle=0, held_back=False)),
        (2, PoolNow(stage="caption", pending=3, running=0, idle=0, held_back=False)),
        (1, PoolNow(stage="caption", pending=1, running=1, idle=1, held_back=False)),
        (5, PoolNow(stage="caption", pending=1, running=1, idle=0, held_back=False)),  # some that load are dead
        (0, PoolNow(stage="caption", pending=1, running=1, idle=0, held_back=False)),  # one is dead that was ready
        (0, PoolNow(stage="caption", pending=0, running=2, idle=1, held_back=True)),
        (0, PoolNow(stage="caption", pending=0, running=2, idle=0, held_back=False)),
    ]
    watch.look(lambda: [])
    for loading, state in states:
        now[0] += 10.0
        watch.hear({"caption": 2, "embed": 7}, {"caption": loading})
        watch.look(lambda state=state: [state])  # type: ignore[misc]
    assert watch.times()["caption"] == PoolTime(
        waiting_seconds=50,
        loading_seconds=40,
        ready_seconds=70,
        starved_seconds=10,
        blocked_seconds=10,
        held_back_seconds=10,
        most_workers=2,
    )


def test_a_pool_waits_at_the_gate_while_that_is_full_and_no_stage_before_it_has_a_block() -> None:
    """A slow captioner behind a queue as long as the gate allows: the decoder is not starved of what could be read."""
    decode = PoolNow(stage="decode", pending=0, running=2, idle=2, held_back=False)
    caption = PoolNow(stage="caption", pending=0, running=1, idle=0, held_back=False, queued=5)
    embed = PoolNow(stage="embed", pending=0, running=1, idle=1, held_back=False)
    over = replace(caption, idle=1, queued=0)

    def waited(*pools: PoolNow, is_full: bool = True) -> list[tuple[float, float]]:
        """Seconds at the gate and starved, of a second, of each pool's workers."""
        now = [0.0]
        watch = PoolWatch(clock=lambda: now[0])
        watch.look(lambda: pools)
        watch.hear({}, {}, gate_is_full=is_full)
        now[0] = 1.0
        watch.look(lambda: pools)
        return [(time.gate_seconds, time.starved_seconds) for time in watch.times().values()]

    assert waited(decode, caption, embed) == [(2, 0), (0, 0), (0, 1)]
    assert waited(decode, caption, embed, is_full=False) == [(0, 2), (0, 0), (0, 1)]
    assert waited(replace(decode, idle=1), over, embed) == [(1, 0), (0, 1), (0, 1)], "a block is being decoded"
    assert waited(replace(decode, queued=1), over, embed) == [(0, 2), (0, 1), (0, 1)], "a block comes to be decoded"
    assert waited(decode, over, embed) == [(2, 0), (1, 0), (1, 0)], "all that are out wait for the driver"


def test_a_new_pass_has_a_gate_of_its_own() -> None:
    now = [0.0]
    watch = PoolWatch(clock=lambda: now[0])
    watch.hear({}, {}, gate_is_full=True)
    with watch.watching():
        for second in range(2):
            now[0] = float(second)
            watch.look(lambda: [PoolNow(stage="decode", pending=0, running=1, idle=1, held_back=False)])
    assert (watch.times()["decode"].gate_seconds, watch.times()["decode"].starved_seconds) == (0, 1)


def test_workers_that_never_have_a_node_cost_nothing() -> None:
    """Eight are asked for, four nodes come after an hour and load for another: the price is that of four."""
    now = [0.0]
    watch = PoolWatch(clock=lambda: now[0])
    for hour, (alive, running) in enumerate([(0, 0), (0, 0), (4, 0), *[(4, 4)] * 9]):
        now[0] = hour * 3600.0
        watch.hear({"caption": alive}, {"caption": alive - running})
        watch.look(lambda running=running: [  # type: ignore[misc]
            PoolNow(stage="caption", pending=8 - running, running=running, idle=0, held_back=False)
        ])  # fmt: skip
    stats = {"caption": StageStats(results=1000, busy_seconds=36 * 3600.0)}
    ledger = make_ledger(stats, watch.times(), {"caption": WorkerShape(cpus=1, gpus=1)}, PRICES)
    line = ledger["caption"]
    assert (line.workers, line.held_seconds, line.price) == (4, 40 * 3600.0, 160.0)
    assert line.gpu_seconds_per_1000 == 40 * 3600.0
    assert (line.busy_share, line.loading_share) == (0.9, 0.1)
    assert line.waiting_share == (8 + 4 * 10) / (8 * 11)
    text = ledger_markdown(ledger, PRICES, None, 36_000.0, 1000)
    assert "| caption | 4 | 90% | 0% | 0% | 0% | 10% | 0% | 55% | 144000 | - | 160 |" in text


def test_a_new_pass_has_no_workers_of_the_one_before() -> None:
    now = [0.0]
    watch = PoolWatch(clock=lambda: now[0])
    watch.hear({"caption": 2}, {"caption": 2})
    with watch.watching():
        for second in range(2):
            now[0] = float(second)
            watch.look(lambda: [PoolNow(stage="caption", pending=2, running=0, idle=0, held_back=False)])
    assert watch.times()["caption"] == PoolTime(waiting_seconds=2.0)


def test_a_watch_looks_no_more_often_than_it_must() -> None:
    now = [0.0]
    watch, looks = PoolWatch(clock=lambda: now[0]), []
    for _ in range(100):
        watch.look(lambda: looks.append(now[0]) or [])  # type: ignore[func-returns-value]
        now[0] += LOOK_SECONDS / 4
    assert len(looks) <= 100 / 4 + 1


def plan() -> RunPlan:
    return RunPlan(
        plan_id="p1",
        recipe="modern",
        items=1000,
        sample_items=64,
        fingerprints={},
        nodes={"gpu": 1},
        phases=[["caption"]],
        overrides={},
        bottleneck="caption",
        stages={
            "caption": StagePrediction(
                items=1000,
                workers=2,
                seconds_per_item=Interval(low=1, middle=2, high=3),
                busy_share=1.0,
                output_bytes_per_item=500,
            )
        },
        seconds=Interval(low=500, middle=1000, high=1500),
        items_per_second=Interval(low=0.5, middle=1.0, high=2.0),
        gpu_hours=Interval(low=0.1, middle=0.2, high=0.3),
        cost=Interval(low=1, middle=2, high=3),
        prices=PRICES,
    )


def test_the_report_sets_the_plan_beside_what_came() -> None:
    shapes, times = (
        {"caption": WorkerShape(cpus=1, gpus=0.5)},
        {"caption": PoolTime(ready_seconds=3000, most_workers=2)},
    )
    stats = {"caption": StageStats(results=900, busy_seconds=2700.0)}
    ledger = make_ledger(stats, times, shapes, PRICES)
    costs = NodeCosts(cost=4.5, mean_nodes=1.8, most_nodes=2)
    text = "\n".join(plan_markdown(plan(), ledger, costs, seconds=1800.0, items=900, gpu_hours=0.4))
    assert "| time | 16:40 (8:20 to 25:00) | 30:00 |" in text
    assert "| rows/s, loading included | 1 (0.667 to 2) | 0.5 |" in text
    assert "| GPU-hours | 0.2 (0.1 to 0.3) | 0.4 |" in text
    assert "| cost (EUR) | 2.00 (1.00 to 3.00) | 4.50 |" in text
    assert "| caption: seconds an item | 2 (1 to 3) | 3 |" in text
    assert "| caption: workers, busy | 2, 100% | 2, 90% |" in text
    money = "\n".join(ledger_markdown(ledger, PRICES, costs, 1800.0, 900))
    assert "The nodes cost 4.50 EUR while they were there, 5 for 1,000 items; 2.83 of it no pool held." in money
    assert "There were 1.8 on average, 2 at most; all that the cluster may have would cost 5.00 for 30:00." in money


def test_a_run_that_costs_less_than_a_cent_is_not_told_as_free() -> None:
    costs = NodeCosts(cost=0.00523, mean_nodes=1.0, most_nodes=1)
    idle = make_ledger(
        {"decode": StageStats(results=6)},
        {"decode": PoolTime(ready_seconds=1e-3)},
        {"decode": WorkerShape(cpus=0, gpus=0)},
        PRICES,
    )
    said = "\n".join(ledger_markdown(idle, replace(PRICES, cluster_per_hour=1.2), costs, 12.0, 6))
    assert "The nodes cost 0.0052 EUR while they were there, 0.8717 for 1,000 items; 0.0052 of it no pool held." in said
    assert "all that the cluster may have would cost 0.004 for 0:12." in said
    cheap = replace(plan(), cost=Interval(low=0.0, middle=0.0013, high=0.25))
    assert "| 0.0013 (0.00 to 0.25) | 0.0052 |" in "\n".join(
        plan_markdown(cheap, {}, costs, seconds=12.0, items=6, gpu_hours=0.0)
    )


def test_workers_are_those_of_the_last_look_each_in_one_state_and_none_once_a_pass_is_over() -> None:
    now = [100.0]
    watch = PoolWatch(clock=lambda: now[0])

    def look(*pools: PoolNow) -> dict[str, PoolWorkers]:
        now[0] += LOOK_SECONDS
        watch.look(lambda: pools)
        return watch.workers()

    with watch.watching():
        watch.hear({"caption": 3}, {"caption": 1})
        caption = PoolNow(stage="caption", pending=3, running=2, idle=1, held_back=False)
        assert look(caption) == {"caption": PoolWorkers(waiting=2, loading=1, idle=1, working=1)}
        embed = PoolNow(stage="embed", pending=0, running=4, idle=0, held_back=False)
        assert look(embed) == {"caption": PoolWorkers(), "embed": PoolWorkers(working=4)}, "caption has no more input"
    assert watch.workers() == dict.fromkeys(("caption", "embed"), PoolWorkers())


def test_no_more_workers_hold_a_place_than_ray_has_however_lately_they_were_heard_of() -> None:
    now = [0.0]
    watch = PoolWatch(clock=lambda: now[0])
    watch.hear({"caption": 3, "embed": 2, "decode": 1}, {"caption": 1})
    assert watch.living() == {"caption": 3, "embed": 2, "decode": 1}, "before the first look"
    caption = PoolNow(stage="caption", pending=1, running=1, idle=0, held_back=False)
    watch.look(lambda: [caption, PoolNow(stage="embed", pending=0, running=4, idle=4, held_back=False)])
    assert watch.living() == {"caption": 2, "embed": 2, "decode": 1}
    watch.hear({"caption": 2}, {})
    now[0] = 1.0
    watch.look(lambda: [caption])
    assert watch.living() == {"caption": 1}, "one was ready and is being started anew, on no node yet"
    with watch.watching():
        pass
    watch.hear({"caption": 3}, {})
    assert watch.living() == {"caption": 0}, "its pass is over"
