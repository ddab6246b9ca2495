"""The table of `pipeline.worth` as Markdown and as JSON."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.published import PUBLISHED
from pipeline.worth import Entry, Spread, WorthTable
from recsys.bootstrap import Comparison

TITLES = {"two_towers": "Two-Towers", "sasrec": "SASRec", "popularity": "popularity", "content": "content neighbours"}
_NOTHING = "\u2013"
_TRAINED = ("two_towers", "sasrec")


def to_json(table: WorthTable) -> str:
    """The whole table; numbers that are not finite are null."""
    values = asdict(table) | {"published": [asdict(one) for one in PUBLISHED]}
    return json.dumps(_finite(values), indent=1, ensure_ascii=False) + "\n"


def to_markdown(table: WorthTable) -> str:
    """The table for a person."""
    parts = [
        "# What the features are worth",
        _data(table),
        "## Test results",
        _results(table),
        _legend(table),
        "## Difference to the metadata row" if table.against == "metadata" else f"## Difference to {table.against}",
        _differences(table),
        "## Wider lists, coverage and popularity",
        _wider(table),
        "## Slices by the target",
        _slices(table),
        "## Published",
        "On MicroLens-100K: other users, other items, so not comparable by digit. HR@10 and nDCG@10.",
        _grid(
            ["model", "features", "HR@10", "nDCG@10", "source"],
            [
                [one.model, one.features, f"{one.hit_rate_10:.4f}", _number(one.ndcg_10), one.source]
                for one in PUBLISHED
            ],
        ),
        "## Cost",
        _cost(table),
    ]
    if table.failures:
        lines = [f"- {cell}: {reason}" for cell, reason in table.failures.items()]
        parts += ["## Cells that failed", "\n".join(lines)]
    if table.against is None:
        parts = [part for part in parts if not part.startswith("## Difference")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data(table: WorthTable) -> str:
    out = table.exclusions
    lines = [
        f"Interactions: `{table.interactions}`." + (f" Release: `{table.release}`." if table.release else ""),
        f"{out.kept_users:,} users, {table.items:,} items ranked, {out.kept_events:,} of {out.events:,} events kept.",
        f"Left out: {out.unknown_events:,} events on {out.unknown_items:,} items that are not in the catalogue, "
        f"{out.repeated_events:,} repeated events, {out.older_events:,} events before a user's last items, "
        f"{out.short_users:,} users with fewer than three items ({out.short_user_events:,} events).",
    ]
    features = [
        f"- `{one.name}`: {one.dim} dimensions; {one.items:,} items have a vector, {one.missing:,} have none"
        + (f" (of these {one.not_finite:,} held NaN or infinity)" if one.not_finite else "")
        + (f"; {one.unknown:,} vectors of unknown items are not used" if one.unknown else "")
        for one in table.features
    ]
    return "\n".join(lines) + ("\n\nFeatures:\n\n" + "\n".join(features) if features else "")


def _rows(table: WorthTable) -> Sequence[str]:
    return list(dict.fromkeys(entry.row for entry in table.entries if entry.model in _TRAINED))


def _results(table: WorthTable) -> str:
    header = ["features"]
    for model in _TRAINED:
        header += [f"{TITLES[model]} HR@10", "nDCG@10"]
    lines = [[row, *(text for model in _TRAINED for text in _cells(table.entry(model, row)))] for row in _rows(table)]
    floor = [
        [f"{TITLES[entry.model]}{f' ({entry.row})' if entry.model == 'content' else ''}", *_cells(entry)]
        for entry in table.entries
        if entry.model not in _TRAINED
    ]
    return _grid(header, lines) + "\n\nWithout training:\n\n" + _grid(["model", "HR@10", "nDCG@10"], floor)


def _cells(entry: Entry | None) -> list[str]:
    if entry is None:
        return [_NOTHING, _NOTHING]
    return [
        _spread(entry.test["hit_rate@10"]) + _mark(entry.hit_rate_against),
        _spread(entry.test["ndcg@10"]) + _mark(entry.ndcg_against),
    ]


def _legend(table: WorthTable) -> str:
    legend = "Mean ± standard deviation over seeds; every model was chosen on the validation items alone."
    if table.against is not None:
        legend += (
            f" ▲ better and ▼ worse than the row `{table.against}` of the same model: "
            "the 95 % interval of a paired bootstrap over users leaves out 0."
        )
    return legend


def _differences(table: WorthTable) -> str:
    if table.against is None:
        return ""
    lines = [
        [entry.row, TITLES[entry.model], _interval(entry.hit_rate_against), _interval(entry.ndcg_against)]
        for entry in table.entries
        if entry.hit_rate_against is not None
    ]
    return _grid(["features", "model", "HR@10 (95 % interval)", "nDCG@10 (95 % interval)"], lines)


def _wider(table: WorthTable) -> str:
    names = ("hit_rate@20", "ndcg@20", "coverage@10", "coverage@20", "popularity_lift@10", "recommended_popularity@10")
    header = [
        "model",
        "features",
        "HR@20",
        "nDCG@20",
        "coverage@10",
        "coverage@20",
        "popularity lift@10",
        "mean count@10",
    ]
    digits = (4, 4, 3, 3, 2, 1)
    lines = [
        [
            TITLES[entry.model],
            entry.row,
            *(_number(entry.test[name].mean, d) for name, d in zip(names, digits, strict=True)),
        ]
        for entry in table.entries
    ]
    note = (
        "Coverage: share of the catalogue that is in somebody's list. Popularity lift: how much more often than the "
        "items of the histories the recommended ones occur in training (0 is no bias). Mean count: of training events "
        "of the recommended items."
    )
    return _grid(header, lines) + "\n\n" + note


def _slices(table: WorthTable) -> str:
    names = list(dict.fromkeys(name for entry in table.entries for name in entry.slices if name != "all"))
    users = {name: entry.slices[name].users for entry in table.entries for name in entry.slices}
    header = ["model", "features", *(f"{name} ({users[name]:,} users)" for name in names)]
    lines = [
        [TITLES[entry.model], entry.row]
        + [f"{_spread(entry.slices[name].hit_rate)} / {_spread(entry.slices[name].ndcg)}" for name in names]
        for entry in table.entries
    ]
    config = table.slice_config
    note = (
        f"HR@10 / nDCG@10. unseen: the target never occurs in training; cold: fewer than {config.cold_below} times; "
        f"long: it lasts more than {config.long_seconds:g} s; short: it does not."
    )
    if "long" not in names:
        known = "No target lasts so long" if "short" in names else "No target's duration is known here"
        note += f" {known}."
    return _grid(header, lines) + "\n\n" + note


def _cost(table: WorthTable) -> str:
    lines = [
        [
            TITLES[entry.model],
            entry.row,
            _mean(cost.epochs for cost in entry.costs) if entry.model in _TRAINED else _NOTHING,
            _per_epoch(entry),
            _mean(cost.cpu_seconds for cost in entry.costs),
            _mean(cost.gpu_seconds for cost in entry.costs),
            ", ".join(sorted({cost.device for cost in entry.costs})),
        ]
        for entry in table.entries
    ]
    header = ["model", "features", "epochs", "CPU s an epoch", "CPU s a cell", "GPU s a cell", "device"]
    total = (
        f"In all {table.cpu_seconds:,.0f} CPU seconds and {table.gpu_seconds:,.0f} GPU seconds for "
        f"{table.cells} cells, {table.cells_reused} of them stored by an earlier run."
    )
    return _grid(header, lines) + "\n\n" + total


def _per_epoch(entry: Entry) -> str:
    epochs = sum(cost.epochs for cost in entry.costs)
    return f"{sum(cost.train_cpu_seconds for cost in entry.costs) / epochs:.1f}" if epochs else _NOTHING


def _mean(values: Iterable[float]) -> str:
    listed = list(values)
    return f"{sum(listed) / len(listed):.0f}"


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.4f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.4f}")


def _mark(comparison: Comparison | None) -> str:
    if comparison is None or not comparison.significant:
        return ""
    return " ▲" if comparison.difference > 0 else " ▼"


def _interval(comparison: Comparison | None) -> str:
    if comparison is None:
        return _NOTHING
    return f"{comparison.difference:+.4f} ({comparison.low:+.4f} to {comparison.high:+.4f})"


def _number(value: float | None, digits: int = 4) -> str:
    return _NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value
