"""Puts a release's manifest together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.config import RunConfig
from pipeline.publish_plan import PublishPlan
from pipeline.quality_gates import GateResult
from pipeline.quality_stats import ReleaseStatistics
from pipeline.report import library_versions
from pipeline.spec import Specs
from records.releases import Manifest, ReleaseFile
from storage.catalog import Catalog
from storage.signed_urls import unsigned


def make_manifest(
    *,
    release: str,
    plan: PublishPlan,
    catalog: Catalog,
    config: RunConfig,
    specs: Specs,
    statistics: ReleaseStatistics,
    dimension: int,
    results: Sequence[GateResult],
    previous: str,
    files: Sequence[ReleaseFile],
) -> Manifest:
    """The manifest: nothing in it depends on when, where or in how many tries the release was written."""
    counts = {
        "items": statistics.rows,
        "items_with_errors": statistics.rows_with_errors,
        "shards": len(plan.released),
        "shards_left_out": plan.left_out,
        "parts": plan.parts,
        **{f"vectors_{view}": found.vectors for view, found in statistics.views.items()},
    }
    return Manifest(
        release=release,
        content=plan.content,
        catalog_revision=catalog.revision,
        source=unsigned(catalog.source),
        counts=counts,
        dimension=dimension,
        vector_dtype=config.embed.dtype,
        fingerprints={name: spec.fingerprint for name, spec in specs.items()},
        models={name: _model(spec.footer, statistics.made_with.get(name, {})) for name, spec in specs.items()},
        prompts=prompts_of(config),
        previous=previous,
        gates=[asdict(result) | {"name": result.name} for result in results],
        statistics=json.loads(statistics.brief().encode()),
        files=files,
        versions=library_versions(),
    )


def prompts_of(config: RunConfig) -> dict[str, str]:
    """Stage to the prompt it was given, of the stages that have one."""
    found = {
        "caption": config.caption.prompt,
        "describe_audio": config.describe_audio.prompt,
        "embed": config.embed.prompt,
    }
    return {stage: prompt for stage, prompt in found.items() if stage in config.stages}


def _model(footer: Mapping[str, str], made_with: Mapping[str, int]) -> dict[str, Any]:
    """What a stage ran with: as the config says, and the library versions that its files name."""
    versions = sorted({json.loads(note).get("versions", "") for note in made_with} - {""})
    return {**footer, "made_with": versions}
