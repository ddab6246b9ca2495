"""The table of `pipeline.worth` as one picture: a line a row of features, a colour a model, the floor in grey."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.worth import WorthTable
from pipeline.worth_markdown import TITLES

_PANELS = (("hit_rate@10", "HR@10"), ("ndcg@10", "nDCG@10"))
_MODELS = (("two_towers", "#D1495B", 0.17), ("sasrec", "#00798C", -0.17))
"""Model, colour, and how far above its line it stands."""
_GREY = "#8A8F98"
_INK = "#22262B"


def to_png(table: WorthTable) -> bytes:
    """A PNG, about 1,500 pixels wide."""
    rows = list(dict.fromkeys(entry.row for entry in table.entries if entry.model not in ("popularity", "content")))
    figure = Figure(figsize=(10, 1.9 + 0.55 * len(rows)), dpi=150, facecolor="white", layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (measure, title) in zip(panels, _PANELS, strict=True):
        _panel(panel, table, rows, measure)
        panel.set_title(title, loc="left", fontsize=11, fontweight="bold", color=_INK)
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(
        f"What the features are worth: {table.exclusions.kept_users:,} users, {table.items:,} items ranked",
        x=0.01, ha="left", fontsize=12, color=_INK,
    )  # fmt: skip
    buffer = io.BytesIO()
    # Without the time and version, so that one table gives one picture.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panel(panel: Axes, table: WorthTable, rows: Sequence[str], measure: str) -> None:
    floor = table.entry("popularity", "-")
    if floor is not None:
        panel.axvline(floor.test[measure].mean, color=_GREY, linestyle=":", linewidth=1.2, label="popularity")
    content = [(entry.test[measure].mean, rows.index(entry.row)) for entry in table.entries if entry.model == "content"
               and entry.row in rows]  # fmt: skip
    if content:
        panel.plot(
            *zip(*content, strict=True), "|", color=_GREY, markersize=13, markeredgewidth=2, label="content neighbours"
        )
    for model, colour, above in _MODELS:
        places = [(entry, rows.index(entry.row) - above) for entry in table.entries if entry.model == model]
        if not places:
            continue
        means = [entry.test[measure].mean for entry, _ in places]
        deviations = [entry.test[measure].deviation or 0.0 for entry, _ in places]
        heights = [height for _, height in places]
        panel.hlines(heights, 0, means, color=colour, alpha=0.25, linewidth=2)
        panel.errorbar(
            means, heights, xerr=deviations, fmt="o", color=colour, markersize=6, capsize=3, label=TITLES[model]
        )
        for mean, deviation, height in zip(means, deviations, heights, strict=True):
            panel.annotate(
                f"{mean:.4f}", (mean + deviation, height), xytext=(8, 0), textcoords="offset points",
                va="center", fontsize=8, color=colour,
            )  # fmt: skip
    farthest = max(
        (entry.test[measure].mean + (entry.test[measure].deviation or 0.0) for entry in table.entries), default=0.0
    )
    panel.set_xlim(0, 1.2 * farthest or 1.0)  # room for the last number
    panel.grid(axis="x", color="#E6E8EB", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(length=0, labelsize=9, colors=_INK)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
