"""What gates judge, put together: statistics of all rows, the vectors of the sample, and the release before."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import TypeAdapter

from pipeline.config import RunConfig
from pipeline.publish_rows import vectors_of
from pipeline.quality_gates import Evidence
from pipeline.quality_stats import ReleaseStatistics
from pipeline.vector_quality import Floats, neighbour_overlap, spectrum, unit_rows
from records.releases import VIEWS, Manifest
from storage.releases import Releases, release_path
from storage.tables import read_table

logger = logging.getLogger(__name__)

Key = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The release that LATEST names."""

    manifest: Manifest
    statistics: ReleaseStatistics
    """In brief."""
    sample: pa.Table


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledView:
    """The rows of a sample that have a vector of one view."""

    places: npt.NDArray[np.int64]
    """(n,) row numbers in the sample."""
    units: Floats
    """(n, D) of unit length; zero where a vector is zero or not finite."""


def load_previous(releases: Releases) -> Previous | None:
    """The release to compare with, or None where there is none."""
    name = releases.latest()
    manifest = releases.manifest(name) if name is not None else None
    if name is None or manifest is None:
        if name is not None:
            logger.warning("LATEST names %s, which is no release: nothing is compared", name)
        return None
    statistics = TypeAdapter(ReleaseStatistics).validate_python(manifest.statistics)
    sample = read_table(releases.store.read_bytes(release_path(name, "sample.parquet")))
    return Previous(manifest=manifest, statistics=statistics, sample=sample)


def sampled_view(sample: pa.Table, view: str) -> SampledView:
    """One view of a sample."""
    vectors, has = vectors_of(sample[f"vector_{view}"])
    return SampledView(places=np.flatnonzero(has), units=unit_rows(vectors.astype(np.float64)))


def evidence_of(
    statistics: ReleaseStatistics, sample: pa.Table, previous: Previous | None, config: RunConfig
) -> Evidence:
    """All that the gates look at."""
    views = {view: sampled_view(sample, view) for view in VIEWS}
    k = config.publish.gates.neighbours
    return Evidence(
        statistics=statistics,
        spectra={view: spectrum(found.units) for view, found in views.items()},
        overlaps=_overlaps(sample, views, previous, k) if previous is not None else {},
        previous=previous.statistics if previous is not None else None,
        normalized=config.embed.normalize,
    )


def _overlaps(
    sample: pa.Table, views: Mapping[str, SampledView], previous: Previous, k: int
) -> dict[str, tuple[float, int]]:
    """View to overlap of neighbours among the items that both samples hold, and how many these are."""
    found: dict[str, tuple[float, int]] = {}
    keys, keys_before = _keys(sample), _keys(previous.sample)
    for view, now in views.items():
        before = sampled_view(previous.sample, view)
        places = {keys_before[place]: row for row, place in enumerate(before.places.tolist())}
        both = [(row, places[keys[place]]) for row, place in enumerate(now.places.tolist()) if keys[place] in places]
        ours, theirs = [one for one, _ in both], [other for _, other in both]
        found[view] = (neighbour_overlap(now.units[ours], before.units[theirs], k) if both else 0.0, len(both))
    return found


def _keys(sample: pa.Table) -> list[Key]:
    columns: list[list[Any]] = [sample[name].to_pylist() for name in ("video_id", "version")]
    return list(zip(*columns, strict=True))
