"""A release's report for a person: gates, plots and a gallery, as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa

from pipeline.config import RunConfig
from pipeline.publish_manifest import prompts_of
from pipeline.quality_gates import Evidence, GateResult
from pipeline.release_gallery import gallery
from pipeline.release_plots import plots
from records.releases import VIEWS
from storage.catalog import Catalog
from storage.faults import redact

REPEATS_SHOWN = 8
PAGE = "release_page.html"
"""The template beside this file: it fetches nothing and runs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInput:
    """What a report tells."""

    release: str
    source: str
    previous: str
    """The release compared with; empty for the first."""
    fingerprints: Mapping[str, str]
    models: Mapping[str, str]
    """Stage to model; empty for a stage without one."""
    left_out: int
    """Unfinished shards that are not in the release."""
    evidence: Evidence
    results: Sequence[GateResult]
    sample: pa.Table
    """With `shard_id`."""
    catalog: Catalog
    config: RunConfig


def render_report(report: ReportInput) -> bytes:
    """The page: the same input, and the same media, give the same bytes."""
    statistics = report.evidence.statistics
    prompts = prompts_of(report.config)
    values: dict[str, Any] = {
        "release": report.release,
        "source": redact(report.source),
        "previous": report.previous,
        "left_out": report.left_out,
        "failures": [result for result in report.results if result.state == "failed"],
        "judged": sum(result.state != "skipped" for result in report.results),
        "skipped": sum(result.state == "skipped" for result in report.results),
        "gates": report.results,
        "tiles": _tiles(report),
        "plots": plots(report.evidence, report.sample),
        "repeats": statistics.repeats.top(REPEATS_SHOWN),
        "stages": [
            {
                "name": stage,
                "fingerprint": fingerprint,
                "model": report.models.get(stage, ""),
                "prompt": prompts.get(stage, ""),
            }
            for stage, fingerprint in report.fingerprints.items()
        ],
        "gallery": gallery(report.sample, report.catalog, report.config),
        "sampled": len(report.sample),
        "rows": statistics.rows,
        "views": VIEWS,
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(PAGE).render(values).encode()


def _tiles(report: ReportInput) -> list[tuple[str, str]]:
    statistics = report.evidence.statistics
    return [
        ("items", f"{statistics.rows:,}"),
        ("with an error", f"{statistics.rows_with_errors:,}"),
        ("without video", f"{statistics.without_video:,}"),
        ("without sound", f"{statistics.without_audio:,}"),
        *((f"vectors: {view}", f"{found.vectors:,}") for view, found in statistics.views.items()),
    ]
