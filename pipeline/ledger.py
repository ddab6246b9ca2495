"""The cost ledger of a run: where each pool's time and money went, and what was planned beside what came."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.node_bill import NodeCosts
from pipeline.pool_watch import PoolTime
from pipeline.progress import clock
from pipeline.run_plan import ClusterPrices, RunPlan, money
from pipeline.stats import StageStats


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """One stage of one run. Shares are of the time for which its workers held a place on a node, and add up to 1, but
    for `waiting_share`."""

    workers: int
    """On nodes, at most at a time."""
    held_seconds: float
    """From a worker's first sign of life on its node to its end, summed over workers: what is paid for."""
    waiting_share: float
    """Of the time since its workers were asked for: on no node yet, or not heard of since their processes began to
    start. No part of what was held."""
    busy_share: float
    starved_share: float
    """Without a block to work on."""
    blocked_share: float
    """Held back for what comes after it."""
    gate_share: float
    """Without a block, and none on its way to it, since the gate let no further row in: those that are out wait in
    later stages, or for the driver."""
    loading_share: float
    other_share: float
    """With a block and not busy: blocks on their way, and lines that pass through."""
    gpu_seconds_per_1000: float
    """GPUs held, busy or not, times seconds, for 1,000 items."""
    busy_seconds_per_item: float
    tokens_per_second: float | None
    """Written, for each second that a worker was busy; None where a stage writes none."""
    price: float | None
    """Of what it held; None where nobody has said what nodes cost."""
    price_per_1000: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShape:
    """What one worker of a stage holds."""

    cpus: float
    gpus: float


def make_ledger(
    stages: Mapping[str, StageStats],
    times: Mapping[str, PoolTime],
    shapes: Mapping[str, WorkerShape],
    prices: ClusterPrices | None,
) -> dict[str, LedgerLine]:
    """Stage to its line, for stages that had a pool.

    Args:
        stages: What the run counted.
        times: What its pools did.
        shapes: What their workers hold.
        prices: What that costs.
    """
    return {
        stage: _line(stages[stage], times[stage], shapes[stage], prices)
        for stage in stages
        if stage in times and _asked_seconds(times[stage]) > 0
    }


def _asked_seconds(time: PoolTime) -> float:
    return time.waiting_seconds + time.loading_seconds + time.ready_seconds


def _line(stats: StageStats, time: PoolTime, shape: WorkerShape, prices: ClusterPrices | None) -> LedgerLine:
    held = time.loading_seconds + time.ready_seconds
    whole = held or 1.0  # a pool that never got a node has no shares
    idle = time.starved_seconds + time.blocked_seconds + time.gate_seconds
    busy = min(stats.busy_seconds, max(time.ready_seconds - idle, 0.0))
    with_block = max(time.ready_seconds - idle - busy, 0.0)
    blocked = time.blocked_seconds + min(time.held_back_seconds, with_block)
    price = held / 3600 * _price_per_hour(shape, prices) if prices is not None else None
    items = max(stats.rows, 1)
    return LedgerLine(
        workers=time.most_workers,
        held_seconds=held,
        waiting_share=time.waiting_seconds / _asked_seconds(time),
        busy_share=busy / whole,
        starved_share=time.starved_seconds / whole,
        blocked_share=blocked / whole,
        gate_share=time.gate_seconds / whole,
        loading_share=time.loading_seconds / whole,
        other_share=(with_block - min(time.held_back_seconds, with_block)) / whole,
        gpu_seconds_per_1000=held * shape.gpus / items * 1000,
        busy_seconds_per_item=stats.busy_seconds / items,
        tokens_per_second=stats.output_tokens / stats.busy_seconds if stats.output_tokens and busy else None,
        price=price,
        price_per_1000=price / items * 1000 if price is not None else None,
    )


def _price_per_hour(shape: WorkerShape, prices: ClusterPrices) -> float:
    """Of one worker: its GPUs with all that their nodes have, or its CPUs of nodes without."""
    return shape.gpus * prices.gpu_per_hour if shape.gpus else shape.cpus * prices.cpu_per_hour


def ledger_markdown(
    ledger: Mapping[str, LedgerLine],
    prices: ClusterPrices | None,
    costs: NodeCosts | None,
    seconds: float,
    items: int,
) -> list[str]:
    """The ledger for people."""
    if not ledger:
        return []
    unit = f" ({prices.currency})" if prices is not None else ""
    lines = [
        "## Where time and money went",
        "",
        "Shares of the time for which a pool's workers were on nodes, loading included; waiting is the share, of the "
        "time since they were asked for, before that: it holds nothing and costs nothing.",
        "",
        "| stage | workers | busy | starved | blocked | gate | loading | other | waiting | GPU s / 1,000 | tokens/s "
        f"| price / 1,000{unit} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for stage, line in ledger.items():
        shares = (
            line.busy_share, line.starved_share, line.blocked_share, line.gate_share, line.loading_share,
            line.other_share, line.waiting_share,
        )  # fmt: skip
        tokens = f"{line.tokens_per_second:.1f}" if line.tokens_per_second is not None else "-"
        price = f"{line.price_per_1000:.4g}" if line.price_per_1000 is not None else "-"
        lines.append(
            f"| {stage} | {line.workers} | {' | '.join(f'{share:.0%}' for share in shares)} "
            f"| {line.gpu_seconds_per_1000:.0f} | {tokens} | {price} |"
        )
    if prices is not None and costs is not None:
        pools = sum(line.price or 0.0 for line in ledger.values())
        whole = seconds / 3600 * prices.cluster_per_hour
        lines += [
            "",
            f"The nodes cost {money(costs.cost)} {prices.currency} while they were there, "
            f"{costs.cost / max(items, 1) * 1000:.4g} for 1,000 items; {money(max(costs.cost - pools, 0.0))} of it no "
            f"pool held. There were {costs.mean_nodes:.1f} on average, {costs.most_nodes} at most; all that the "
            f"cluster may have would cost {money(whole)} for {clock(seconds)}.",
        ]
    return [*lines, ""]


def plan_markdown(
    plan: RunPlan,
    ledger: Mapping[str, LedgerLine],
    costs: NodeCosts | None,
    *,
    seconds: float,
    items: int,
    gpu_hours: float,
) -> list[str]:
    """What was planned beside what came."""
    lines = [
        f"## Plan {plan.plan_id} against actual",
        "",
        f"Planned for {plan.items} items after a sample of {plan.sample_items}; {items} were run.",
        "",
        "| what | planned (90 %) | actual |",
        "|---|---:|---:|",
        f"| time | {_clocks(plan)} | {clock(seconds)} |",
        f"| rows/s, loading included | {plan.items / plan.seconds.middle:.3g} ({plan.items / plan.seconds.high:.3g} "
        f"to {plan.items / plan.seconds.low:.3g}) | {items / seconds if seconds else 0.0:.3g} |",
        f"| GPU-hours | {plan.gpu_hours.middle:.3g} ({plan.gpu_hours.low:.3g} to {plan.gpu_hours.high:.3g}) "
        f"| {gpu_hours:.3g} |",
    ]
    if plan.cost is not None and plan.prices is not None:
        cost = money(costs.cost) if costs is not None else "-"
        planned = f"{money(plan.cost.middle)} ({money(plan.cost.low)} to {money(plan.cost.high)})"
        lines.append(f"| cost ({plan.prices.currency}) | {planned} | {cost} |")
    for stage, line in ledger.items():
        if stage in plan.stages:
            one = plan.stages[stage]
            said = one.seconds_per_item
            lines.append(
                f"| {stage}: seconds an item | {said.middle:.3g} ({said.low:.3g} to {said.high:.3g}) "
                f"| {line.busy_seconds_per_item:.3g} |"
            )
            busy = f"{one.workers}, {one.busy_share:.0%} | {line.workers}, {line.busy_share:.0%}"
            lines.append(f"| {stage}: workers, busy | {busy} |")
    return [*lines, ""]


def _clocks(plan: RunPlan) -> str:
    return f"{clock(plan.seconds.middle)} ({clock(plan.seconds.low)} to {clock(plan.seconds.high)})"
