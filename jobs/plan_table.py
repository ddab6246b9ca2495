"""A plan as a person reads it: what each stage costs and gets, and what it comes to."""

from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from cluster.estimate import LEVEL, Interval
from pipeline.planning import Planned
from pipeline.probe import ProbeResult
from pipeline.progress import clock
from pipeline.run_plan import ClusterPrices, money


def draw_plan(
    console: Console,
    planned: Planned,
    probe: ProbeResult,
    *,
    probe_prices: ClusterPrices | None,
    deadline_seconds: float | None,
) -> None:
    """Prints the plan.

    Args:
        planned: The plan.
        probe: What it rests on.
        probe_prices: What the nodes cost that the probe ran on, where that is known.
        deadline_seconds: When all must be done, from the end of the probe.
    """
    console.print(_stages(planned, probe))
    console.print(_classes(probe))
    for line in [*_summary(planned, deadline_seconds), *_probe_lines(probe, probe_prices)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _stages(planned: Planned, probe: ProbeResult) -> Table:
    plan = planned.plan
    table = Table(title=f"{plan.items} items to do, {plan.sample_items} of them sampled", title_justify="left")
    columns = ("items", "s/item", "CPU s/item", "start", "memory", "GPU memory", "output/item", "workers", "busy")
    table.add_column("stage", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for name, stage in plan.stages.items():
        measured, load = probe.stages[name], next(load for load in planned.sizing.loads if load.name == name)
        table.add_row(
            name,
            str(stage.items),
            _range(stage.seconds_per_item, _digits),
            f"{planned.costs[name].cpu_seconds:.3g}",
            clock(measured.start_seconds),
            _size(measured.memory_bytes),
            _size(measured.gpu_memory_bytes) if measured.gpu_memory_bytes is not None else "-",
            _size(measured.output_bytes_per_item),
            f"{stage.workers} of {f'{load.need.gpus:g} GPU' if load.need.gpus else f'{load.need.cpus:g} CPU'}",
            f"{stage.busy_share:.0%}",
        )
    return table


def _classes(probe: ProbeResult) -> Table:
    """Seconds of one worker for an item, by how long the clip is."""
    table = Table(title="seconds an item, by duration", title_justify="left")
    for column in ("clips of", "share", *probe.stages):
        table.add_column(column, justify="left" if column == "clips of" else "right")
    for index, one in enumerate(probe.classes):
        cells = [str(one), f"{one.items / probe.items:.0%}"]
        for stage in probe.stages.values():
            waves = [wave for wave in stage.waves if wave.class_index == index]
            rows = sum(wave.rows for wave in waves)
            cells.append(f"{sum(wave.seconds for wave in waves) / rows:.3g}" if rows else "-")
        table.add_row(*cells)
    return table


def _summary(planned: Planned, deadline_seconds: float | None) -> list[str]:
    plan, phases = planned.plan, planned.sizing.phases
    price = f", {money(plan.prices.cluster_per_hour)} {plan.prices.currency} an hour" if plan.prices is not None else ""
    lines = [f"Cluster      {' + '.join(f'{count} {name}' for name, count in plan.nodes.items())}{price}"]
    if len(phases) > 1:
        groups = " → ".join("+".join(phase) for phase in plan.phases)
        lines.append(f"Phases       {groups}, one after the other: all at once would not fit, or take longer")
    lines += [
        f"Bottleneck   {plan.bottleneck}",
        f"Rows/s       {_range(plan.items_per_second, _digits)}",
        f"Time         {_clocks(plan.seconds)}, of which {clock(planned.sizing.start_seconds)} load models",
        *([_deadline(plan.seconds, deadline_seconds)] if deadline_seconds is not None else []),
        f"GPU-hours    {_range(plan.gpu_hours, _digits)}",
        f"Cost         {_range(plan.cost, money)} {plan.prices.currency}"
        if plan.cost is not None and plan.prices is not None
        else "Cost         not known: --prices has no price for these nodes",
    ]
    lines += [
        f"In brackets: the {LEVEL:.0%} interval that the sample's durations, and the spread within them, leave.",
        "Assumed: the bottleneck never waits, models load as fast as here; the run's report shows if they did.",
    ]
    return [*lines, *(f"Note: {note}" for note in plan.notes)]


def _deadline(seconds: Interval, deadline_seconds: float) -> str:
    met = "met" if seconds.high <= deadline_seconds else "met by the estimate, not by its upper end"
    return f"Deadline     in {clock(deadline_seconds)}: {met if seconds.middle <= deadline_seconds else 'missed'}"


def _probe_lines(probe: ProbeResult, prices: ClusterPrices | None) -> list[str]:
    cost = (
        f" and {money(probe.seconds / 3600 * prices.cluster_per_hour)} {prices.currency}" if prices is not None else ""
    )
    failed = {name: stage.failed for name, stage in probe.stages.items() if stage.failed}
    lines = [
        f"The probe took {clock(probe.seconds)}, {probe.gpu_seconds / 3600:.3g} GPU-hours{cost}, and committed nothing."
    ]
    if "decode" in probe.stages:
        size = _size(probe.stages["decode"].block_bytes_per_item)
        lines.append(f"An item's frames and sound take {size} of the object store on their way from decode.")
    if failed:
        lines.append(f"Sampled items that failed: {', '.join(f'{name} {count}' for name, count in failed.items())}")
    return lines


def _digits(number: float) -> str:
    return f"{number:.3g}"


def _range(interval: Interval, form: Callable[[float], str]) -> str:
    low, middle, high = (form(value) for value in (interval.low, interval.middle, interval.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def _clocks(interval: Interval) -> str:
    low, middle, high = (clock(value) for value in (interval.low, interval.middle, interval.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def _size(number: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("kiB", 2**10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f} B" if np.isfinite(number) else "-"
