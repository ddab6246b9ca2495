"""The report of a run: what programs read in its JSON, and people in its Markdown, from counters that are known."""

import json
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from markdown_it import MarkdownIt

from pipeline.remaining import StageRemaining
from pipeline.report import RunReport
from pipeline.stats import StageStats
from tests.pipeline.test_planning import CPU, ONE_GPU, planned

DECODE = StageStats(
    results=95, failed=5, errors=Counter(timeout=2, corrupt=3), stream_errors=Counter(no_audio=4), busy_seconds=8.0
)
CAPTION = StageStats(
    results=90, failed=10, errors=Counter(corrupt=10), busy_seconds=400.0, prompt_tokens=70_000, output_tokens=9_000
)
EMBED = StageStats()
REPORT = RunReport(
    run_id="20261126T100000-abcdef",
    output="s3://bucket/out",
    source="s3://bucket/videos",
    recipe="tiny",
    started_at="2026-11-26T10:00:00+00:00",
    seconds=250.0,
    items=120,
    items_run=100,
    items_with_errors=10,
    items_from_journal=7,
    items_removed=2,
    shards_committed=3,
    shards_pending=4,
    stages={"decode": DECODE, "caption": CAPTION, "embed": EMBED},
    gpus={"decode": 0.0, "caption": 0.5, "embed": 0.25},
    fingerprints={"decode": "d1", "caption": "c1"},
    gpu_hours_held=0.25,
    versions={"python": "3.12.1"},
)


def told(report: RunReport) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(report.as_json())
    return values


def tables(markdown: str) -> list[list[list[str]]]:
    """The cells of each table, row by row, as a Markdown parser sees them."""
    found: list[list[list[str]]] = []
    inside = False
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            inside = True
        elif token.type == "inline" and inside:
            found[-1][-1].append(token.content)
            inside = False
    return found


def bullets(markdown: str) -> list[str]:
    return [line[2:] for line in markdown.splitlines() if line.startswith("- ")]


def test_a_stages_rows_a_second_are_those_of_a_worker_while_it_is_busy() -> None:
    stages = told(REPORT)["stages"]
    assert {stage: one["busy_seconds"] for stage, one in stages.items()} == {
        "decode": 8.0,
        "caption": 400.0,
        "embed": 0,
    }
    rates = {stage: one["rows_per_second"] for stage, one in stages.items()}
    assert rates == {"decode": 12.5, "caption": 0.25, "embed": 0.0}


def test_the_runs_pace_is_said_once_and_is_that_of_its_whole_time() -> None:
    assert told(REPORT)["rows_per_second"] == 0.4
    assert told(replace(REPORT, seconds=0.0))["rows_per_second"] == 0.0
    assert "pace of the whole run, loading included: 0.4 rows/s" in bullets(REPORT.as_markdown())
    assert REPORT.as_markdown().count("0.4 rows/s") == 1


def test_gpu_seconds_are_the_busy_ones_times_the_gpus_of_a_worker() -> None:
    stages = told(REPORT)["stages"]
    assert {stage: one["gpu_seconds"] for stage, one in stages.items()} == {"decode": 0, "caption": 200.0, "embed": 0}
    unknown = replace(REPORT, gpus={})
    assert {one["gpu_seconds"] for one in told(unknown)["stages"].values()} == {0.0}


def test_failures_are_counted_by_kind_and_those_of_single_streams_apart() -> None:
    stages = told(REPORT)["stages"]
    assert stages["decode"]["errors"] == {"timeout": 2, "corrupt": 3}
    assert stages["decode"]["stream_errors"] == {"no_audio": 4}
    assert (stages["caption"]["errors"], stages["caption"]["stream_errors"]) == ({"corrupt": 10}, {})
    for stage, stats in REPORT.stages.items():
        assert (stages[stage]["results"], stages[stage]["failed"]) == (stats.results, stats.failed)
        assert sum(stages[stage]["errors"].values()) == stats.failed
    assert (stages["caption"]["prompt_tokens"], stages["caption"]["output_tokens"]) == (70_000, 9_000)


def test_the_table_has_a_line_for_each_stage() -> None:
    (table,) = tables(REPORT.as_markdown())
    decode_kinds = "corrupt 3, timeout 2 (in one stream of good rows: no_audio 4)"
    assert table == [
        [
            "stage", "results", "errors", "by kind", "busy", "rows/s while busy", "GPU seconds", "tokens in",
            "tokens out",
        ],
        ["decode", "95", "5", decode_kinds, "8.0 s", "12.5", "0.0", "0", "0"],
        ["caption", "90", "10", "corrupt 10", "400.0 s", "0.25", "200.0", "70000", "9000"],
        ["embed", "0", "0", "-", "0.0 s", "0", "0.0", "0", "0"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "seconds", "text"),
    [(1, 600.0, "0.00167"), (10, 4.0, "2.5"), (999, 1.0, "999"), (123_456, 10.0, "12346")],
)
def test_a_slow_stage_and_a_fast_one_can_be_read(rows: int, seconds: float, text: str) -> None:
    report = replace(REPORT, stages={"decode": StageStats(results=rows, busy_seconds=seconds)})
    (table,) = tables(report.as_markdown())
    assert table[1][5] == text


def test_the_head_says_what_became_of_the_items() -> None:
    lines = REPORT.as_markdown().splitlines()
    assert lines[0] == "# Run 20261126T100000-abcdef: finished"
    assert lines[2].endswith("recipe tiny, started 2026-11-26T10:00:00+00:00, took 4:10.")
    assert bullets(REPORT.as_markdown())[:6] == [
        "items in the catalog: 120 (and 2 superseded or deleted, skipped)",
        "items run: 100 = 90 without error + 10 with errors",
        "pace of the whole run, loading included: 0.4 rows/s",
        "taken over from the journal of a stopped run: 7",
        "shards committed: 3 of 4 that had work",
        "GPU-hours held, busy or not: 0.25",
    ]


def test_a_run_that_stopped_says_why_and_how_long_the_rest_takes() -> None:
    left = {"caption": StageRemaining(shards=1, rows=20), "embed": StageRemaining(shards=2, rows=40)}
    stopped = replace(REPORT, stopped="the deadline is near", remaining=left, phases=[["decode", "caption"], ["embed"]])
    text = stopped.as_markdown()
    assert text.splitlines()[0].endswith(": stopped: the deadline is near")
    assert "phases: decode+caption → embed" in bullets(text)
    rest = "caption 1 shards (~20 rows), embed 2 shards (~40 rows); about 1:40 at this run's pace"
    assert f"left for the next run: {rest}" in bullets(text)
    assert told(stopped)["remaining"]["embed"] == {"shards": 2, "rows": 40}


def test_what_is_left_has_no_time_where_there_is_no_pace() -> None:
    left = {"caption": StageRemaining(shards=1, rows=20)}
    assert replace(REPORT, items_run=0, remaining=left).remaining_text() == "caption 1 shards (~20 rows)"


def test_a_rate_without_an_upper_end_leaves_the_json_readable_for_all() -> None:
    made = planned({CPU: 2, ONE_GPU: 1}).plan
    endless = replace(made, items_per_second=replace(made.items_per_second, high=math.inf))
    text = replace(REPORT, plan=endless).as_json()
    assert json.loads(text, parse_constant=pytest.fail)["plan"]["items_per_second"]["high"] is None
