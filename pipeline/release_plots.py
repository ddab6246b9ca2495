"""The plots of a release's report, each an SVG as a `data:` URI: no scripts, no fonts, nothing fetched."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from pipeline.publish_evidence import sampled_view
from pipeline.quality_gates import Evidence
from pipeline.quality_stats import ReleaseStatistics
from pipeline.sketches import Lengths, length_edges
from pipeline.vector_quality import Floats
from records.releases import VIEWS

COLOURS = ("#2f6f9f", "#d9822b", "#4f9d69", "#b5504f", "#7d6aa8", "#8a6d4b", "#c774a8", "#6b7280", "#a3a33a", "#3aa0a3")
NOW, BEFORE = COLOURS[0], "#9aa5b1"
MOST_PAIRS = 200_000
NARROW, WIDE = 5.3, 11.2
"""Inches; two narrow ones stand side by side on the page."""

_ROUNDS = 60
_HEADROOM = 0.3
"""Of an axis, above what it shows: room for the legend."""

_STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "release",  # the same data give the same bytes
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label may hold any character
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa5b1",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


def plots(evidence: Evidence, sample: pa.Table) -> dict[str, str]:
    """Caption to picture, in the order of the report; a plot without anything to show is left out."""
    statistics, previous = evidence.statistics, evidence.previous
    style: Any = dict(_STYLE)
    with mpl.rc_context(style):
        drawn = {
            "Rows without a result, by stage and kind of failure": _errors(statistics),
            "Rows without a vector, by view and reason": _missing(statistics),
            "Languages of transcripts": _languages(statistics, previous),
            "Singular values of the sampled vectors, relative to the largest": _spectra(evidence),
            "Length of texts, in characters": _lengths(statistics, previous),
            "Cosine of pairs of sampled items": _cosines(sample),
            "The sampled items along the two main axes of each view": _maps(sample),
        }
    return {caption: picture for caption, picture in drawn.items() if picture is not None}


def _errors(statistics: ReleaseStatistics) -> str | None:
    kinds = {stage: counts for stage, counts in statistics.error_kinds.items()}
    return _stacked(kinds, statistics.rows) if any(kinds.values()) else None


def _missing(statistics: ReleaseStatistics) -> str | None:
    reasons = {view: found.missing for view, found in statistics.views.items()}
    return _stacked(reasons, statistics.rows) if any(reasons.values()) else None


def _stacked(bars: Mapping[str, Mapping[str, int]], rows: int) -> str:
    """One horizontal bar a name, in shares of the rows, stacked by what it counts."""
    figure = Figure(figsize=(NARROW, 0.3 * len(bars) + 1.1), layout="constrained")
    axes = figure.subplots()
    names = list(bars)
    parts = sorted({part for counts in bars.values() for part in counts})
    left = np.zeros(len(names))
    for number, part in enumerate(parts):
        shares = np.array([100.0 * bars[name].get(part, 0) / max(rows, 1) for name in names])
        axes.barh(
            names, shares, left=left, label=part.replace("_", " "), color=COLOURS[number % len(COLOURS)], height=0.6
        )
        left += shares
    axes.invert_yaxis()
    axes.set_xlabel("% of rows")
    axes.set_xlim(0, max(1.0, min(100.0, 1.15 * float(left.max()))))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _svg(figure)


def _lengths(statistics: ReleaseStatistics, previous: ReleaseStatistics | None) -> str | None:
    texts = {name: text.lengths for name, text in statistics.texts.items() if text.lengths.count}
    if not texts:
        return None
    figure = Figure(figsize=(WIDE, 2.5), layout="constrained")
    for axes, (name, lengths) in zip(figure.subplots(1, len(texts), squeeze=False)[0], texts.items(), strict=True):
        before = previous.texts.get(name) if previous is not None else None
        edges = length_edges()
        axes.stairs(_shares(lengths), edges, fill=True, color=NOW, alpha=0.8, label=f"mean {lengths.mean:.0f}")
        if before is not None and before.lengths.count:
            axes.stairs(_shares(before.lengths), edges, color="#333", label=f"last release, {before.lengths.mean:.0f}")
        shown = np.flatnonzero(lengths.bins)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_plain)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=_HEADROOM)
        axes.set_xlim(edges[max(shown[0] - 2, 0)], edges[min(shown[-1] + 3, len(edges) - 1)])
        axes.set_title(name.replace("_", " "))
        axes.set_ylabel("% of texts")
        axes.legend(frameon=False, fontsize=8, loc="upper right")
    return _svg(figure)


def _shares(lengths: Lengths) -> Any:  # noqa: ANN401 - an array of floats
    return 100.0 * np.asarray(lengths.bins) / lengths.count


def _languages(statistics: ReleaseStatistics, previous: ReleaseStatistics | None) -> str | None:
    if not statistics.languages:
        return None
    ordered = sorted(statistics.languages, key=lambda code: (-statistics.languages[code], code))[:12]
    figure = Figure(figsize=(NARROW, 2.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(ordered))
    mixes = [(NOW, "this release", statistics.languages)]
    if previous is not None and previous.languages:
        mixes.append((BEFORE, "last release", previous.languages))
    for number, (colour, label, mix) in enumerate(mixes):
        shares = [100.0 * mix.get(code, 0) / sum(mix.values()) for code in ordered]
        axes.bar(places + 0.4 * number, shares, width=0.38, color=colour, label=label)
    axes.set_xticks(places + 0.2 * (len(mixes) - 1), ordered)
    axes.set_ylabel("% of transcripts")
    axes.margins(y=_HEADROOM)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    return _svg(figure)


def _cosines(sample: pa.Table) -> str | None:
    views = {view: sampled_view(sample, view).units for view in VIEWS}
    views = {view: units for view, units in views.items() if len(units) > 1}
    if not views:
        return None
    figure = Figure(figsize=(WIDE, 2.3), layout="constrained")
    for axes, (view, units) in zip(figure.subplots(1, len(views), squeeze=False)[0], views.items(), strict=True):
        rows = min(len(units), int(np.sqrt(2 * MOST_PAIRS)))
        cosines = (units[:rows] @ units[:rows].T)[np.triu_indices(rows, 1)]
        counts, edges = np.histogram(np.clip(cosines, -1.0, 1.0), bins=60)
        axes.stairs(100.0 * counts / len(cosines), edges, fill=True, color=NOW, alpha=0.8)
        axes.axvline(float(cosines.mean()), color=COLOURS[1], linewidth=1.2, label=f"mean {cosines.mean():.2f}")
        axes.set_title(view)
        axes.set_ylabel("% of pairs")
        axes.margins(y=_HEADROOM)
        axes.legend(frameon=False, fontsize=8, loc="upper right")
    return _svg(figure)


def _spectra(evidence: Evidence) -> str | None:
    spectra = {view: found for view, found in evidence.spectra.items() if found.rows > 1 and found.singular_values}
    spectra = {view: found for view, found in spectra.items() if found.singular_values[0] > 0}
    if not spectra:
        return None
    figure = Figure(figsize=(NARROW, 2.6), layout="constrained")
    axes = figure.subplots()
    for number, (view, found) in enumerate(spectra.items()):
        values = np.asarray(found.singular_values)
        label = f"{view}: effective rank {found.effective_rank:.0f} of {min(found.rows, found.dimension)}"
        shown = values[values > 0] / values[0]
        axes.plot(np.arange(1, len(shown) + 1), shown, color=COLOURS[number], linewidth=1.4, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_plain)
    axes.set_ylim(bottom=1e-4)
    axes.set_xlabel("number")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return _svg(figure)


def _maps(sample: pa.Table) -> str | None:
    views = {view: sampled_view(sample, view).units for view in VIEWS}
    views = {view: units for view, units in views.items() if min(units.shape) > 1}
    if not views:
        return None
    figure = Figure(figsize=(WIDE, 2.6), layout="constrained")
    for axes, (view, units) in zip(figure.subplots(1, len(views), squeeze=False)[0], views.items(), strict=True):
        axes.scatter(*main_axes(units).T, s=5, color=NOW, alpha=0.5, linewidths=0)
        axes.set_title(view)
        axes.set_xticks(())
        axes.set_yticks(())
        axes.set_aspect("equal", adjustable="datalim")
    return _svg(figure)


def _plain(value: float, position: float) -> str:
    """A tick's number; the logarithmic axis's own way needs the mathematics that labels must not have."""
    return f"{value:g}"


def main_axes(units: Floats) -> Floats:
    """(n, 2) places of (n, D) rows along their two main axes, by orthogonal iteration: all vectors of the
    covariance would take a minute where these two take a moment."""
    centred = units - units.mean(axis=0)
    axes = np.random.default_rng(0).normal(size=(units.shape[1], 2))
    for _ in range(_ROUNDS):
        axes = np.linalg.qr(centred.T @ (centred @ axes))[0]
    places: Floats = centred @ axes
    return places


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
