"""The dashboard as a file: what a real run exports, tests/pipeline/test_metrics_scraped.py holds against it."""

import json
import re
from typing import Any

import promql_parser
import pytest

from pipeline.metrics import BYTES_READ
from pipeline.run_metrics import DRIVER_METRICS
from tests.cluster.files import DASHBOARD, ROOT

METRICS = {metric.exported_name: metric for metric in (*DRIVER_METRICS, BYTES_READ)}
RAYS_LABELS = {"SessionName", "NodeAddress", "operator"}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_a_query_is_promql(expression: str) -> None:
    promql_parser.parse(expression.replace("$__rate_interval", "1m"))


def test_every_metric_of_ours_is_shown_and_documented() -> None:
    shown = {name for expression in expressions() for name in re.findall(r"ray_reelscribe_\w+", expression)}
    assert shown == set(METRICS)
    documented = (ROOT / "docs" / "operations.md").read_text()
    for name in METRICS:
        assert f"`{name}`" in documented or f"`…{name.removeprefix('ray_reelscribe')}`" in documented, name


def test_queries_group_by_labels_that_there_are() -> None:
    for expression in expressions():
        metrics = [METRICS[name] for name in re.findall(r"ray_reelscribe_\w+", expression)]
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
        assert grouped <= RAYS_LABELS | {tag for metric in metrics for tag in metric.tags}, expression


def test_counters_are_shown_as_rates_or_ratios_and_gauges_as_they_are() -> None:
    for expression in expressions():
        for rated in re.findall(r"rate\((\w+)", expression):
            assert METRICS[rated].counter, expression
        for name, metric in METRICS.items():
            if metric.counter and name in expression:
                assert f"rate({name}" in expression or "/" in expression, expression


def test_panels_are_told_apart_and_lie_beside_each_other() -> None:
    assert len({panel["id"] for panel in panels()}) == len({panel["title"] for panel in panels()}) == len(panels())
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        place = panel["gridPos"]
        assert panel["description"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_every_query_goes_to_the_source_that_was_chosen() -> None:
    sources = {json.dumps(target["datasource"], sort_keys=True) for panel in panels() for target in panel["targets"]}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}
    variables = {one["name"] for one in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)\}?", " ".join(expressions())))
    assert used | {"datasource"} == variables
