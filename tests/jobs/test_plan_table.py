"""What a plan prints says what it holds."""

import io
from dataclasses import replace

from rich.console import Console

from cluster.estimate import DurationClass
from jobs.plan_table import draw_plan
from pipeline.planning import Planned
from pipeline.probe import ProbeResult
from tests.pipeline.test_planning import ONE_GPU, planned, stage


def printed(made: Planned, deadline: float | None) -> str:
    probe = ProbeResult(
        classes=(DurationClass(start_seconds=0, end_seconds=float("inf"), items=16),),
        stages={"decode": replace(stage(0.5), failed=3), "caption": stage(2.0), "embed": stage(0.05)},
        items=16,
        seconds=1800.0,
        gpu_seconds=1800.0,
    )
    text = io.StringIO()
    draw_plan(Console(file=text, width=160), made, probe, probe_prices=made.plan.prices, deadline_seconds=deadline)
    return text.getvalue()


def test_it_says_cluster_phases_bottleneck_time_money_and_what_the_probe_took() -> None:
    made = planned({ONE_GPU: 1})
    said = printed(made, None)
    for line in (
        "10000 items to do, 16 of them sampled",
        "Cluster      1 gpu, 5.00 EUR an hour",
        "Phases       decode+caption → embed, one after the other",
        f"Bottleneck   {made.plan.bottleneck}",
        "EUR",
        "Note: caption: had 4 rows at a time",
        "The probe took 30:00, 0.5 GPU-hours and 2.50 EUR, and committed nothing.",
        "Sampled items that failed: decode 3",
    ):
        assert line in said
    assert "Deadline" not in said


def test_it_says_whether_a_deadline_is_met() -> None:
    made = planned({ONE_GPU: 1})
    took = made.plan.seconds.high
    assert "Deadline     in " in printed(made, took * 2)
    assert ": met\n" in printed(made, took * 2)
    assert ": missed\n" in printed(made, took / 2)


def test_unknown_prices_are_said() -> None:
    assert "Cost         not known" in printed(planned({replace(ONE_GPU, cpus=5, name="unknown"): 1}), None)
