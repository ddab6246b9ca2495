"""What a release will be made of, fixed before anything is read: which file of which stage for each shard, in parts.

Made from listings alone, O(shards). Its digest names the content: two publishes of equal content have equal plans, so
that one goes on where the other was killed, and whatever a run commits meanwhile is left to the next release.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.plan import Generations, Plan, make_plan
from pipeline.publish_config import PublishConfig
from pipeline.spec import Specs
from records.errors import UserError
from records.outcomes import STAGES
from records.releases import FORMAT
from storage.catalog import Catalog
from storage.stage_tables import StageTables

REVISION = 1
"""Raised when a change of the code changes what a release holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSource:
    """The files that one shard is released from."""

    shard_id: str
    generations: Mapping[str, int]
    """Stage to generation."""
    metadata_generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTask:
    """One items file: consecutive shards."""

    number: int
    shards: tuple[ShardSource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPlan:
    """Every shard of a release, in the order of the catalog, cut into parts."""

    shard_ids: Sequence[str]
    generations: Mapping[str, Generations]
    metadata: Generations
    released: npt.NDArray[np.int64]
    """Numbers of the shards in the release, ascending."""
    part_ends: npt.NDArray[np.int64]
    """For each part, how many of `released` lie before its end."""
    left_out: int
    """Unfinished shards, which `--allow-partial` leaves out."""
    sample_below: int
    """Rows whose id's `hash64` is below are the sample: a smaller sample is part of a larger one."""
    content: str
    """Digest of what the release is made of."""
    work: str
    """Digest of that and of how it is cut into files."""

    @property
    def parts(self) -> int:
        """Items files."""
        return len(self.part_ends)

    def tasks(self) -> Iterator[PartTask]:
        """The parts, made one at a time."""
        start = 0
        for number, end in enumerate(self.part_ends.tolist()):
            yield PartTask(number=number, shards=tuple(map(self._source, self.released[start:end].tolist())))
            start = end

    def _source(self, shard: int) -> ShardSource:
        return ShardSource(
            shard_id=self.shard_ids[shard],
            generations={stage: int(of[shard]) for stage, of in self.generations.items()},
            metadata_generation=int(self.metadata[shard]),
        )


class _Listed:
    """Stage files listed once: generations for the plan, sizes for the parts. Stages are listed side by side."""

    def __init__(self, tables: StageTables, shards: int) -> None:
        self._tables = tables
        self._shards = shards
        self._sizes: dict[str, npt.NDArray[np.int64]] = {}

    def all_files(self, stage: str, fingerprint: str) -> Iterator[tuple[int, int]]:
        sizes = self._sizes[stage] = np.zeros(self._shards, dtype=np.int64)
        for shard_id, files in groupby(self._tables.files(stage, fingerprint), key=lambda file: file[0]):
            *_, (_, generation, size_bytes) = files  # generations ascend
            if int(shard_id) < self._shards:
                sizes[int(shard_id)] = size_bytes
            yield int(shard_id), generation

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(S,) bytes of a shard's newest stage files, decode's aside: about what its rows will take in a release."""
        listed = [sizes for stage, sizes in self._sizes.items() if stage != "decode"]
        return sum(listed, start=np.zeros(self._shards, dtype=np.int64))

    def fingerprints(self, stage: str) -> Iterable[str]:
        return self._tables.fingerprints(stage)


def make_publish_plan(
    catalog: Catalog, tables: StageTables, specs: Specs, config: PublishConfig, *, allow_partial: bool
) -> PublishPlan:
    """Lists the stage files of the config and cuts them into parts.

    Args:
        catalog: At the revision to release.
        tables: Where the stage files are listed.
        specs: The whole graph of the config: every stage must have a file, newer than none that it reads.
        config: How large parts are.
        allow_partial: Leaves unfinished shards out, whole, instead of refusing.

    Raises:
        UserError: There is no `embed` in the config, shards are unfinished, or none is finished.
    """
    if "embed" not in specs:
        raise UserError("a release needs vectors: stages lacks embed")
    listed = _Listed(tables, catalog.shard_count)
    plan = make_plan(
        shard_ids=catalog.shard_ids(),
        tables=listed,
        metadata=catalog.files.metadata.astype(np.int32),
        titles=catalog.files.titles.astype(np.int32),
        returned=catalog.files.returned.astype(np.int32),
        specs=specs,
        selected=list(specs),
    )
    finished = np.ones(catalog.shard_count, dtype=bool)
    finished[plan.order] = False
    left_out = int(np.count_nonzero(~finished))
    if left_out and not allow_partial:
        raise UserError(_unfinished(plan, specs, left_out, catalog.shard_count))
    released = np.flatnonzero(finished)
    if not len(released):
        raise UserError(f"{tables.root}: no shard is finished, there is nothing to release: run jobs.annotate first")
    content = _digest(catalog, plan, specs, released)
    share = min(config.sample_rows / max(catalog.item_count, 1), 1.0)
    sample_below = int(share * 2**64)
    layout = json.dumps([config.part_bytes, config.row_group_rows, sample_below])
    return PublishPlan(
        shard_ids=plan.shard_ids,
        generations=plan.existing,
        metadata=plan.metadata,
        released=released,
        part_ends=_part_ends(listed.sizes[released], config.part_bytes),
        left_out=left_out,
        sample_below=sample_below,
        content=content,
        work=hashlib.blake2b(f"{content} {layout}".encode(), digest_size=8).hexdigest(),
    )


def _unfinished(plan: Plan, specs: Specs, left_out: int, shards: int) -> str:
    stages = ", ".join(f"{stage} in {count}" for stage in specs if (count := plan.pending_of(stage)))
    return (
        f"{left_out} of {shards} shards are not finished under this config ({stages}): run jobs.annotate with it, "
        "or leave them out with --allow-partial"
    )


def _part_ends(sizes: npt.NDArray[np.int64], part_bytes: int) -> npt.NDArray[np.int64]:
    """Cuts after the shard that fills a part: each holds at least one shard and, but for the last, `part_bytes`."""
    filled = np.cumsum(sizes)
    ends: list[int] = []
    while not ends or ends[-1] < len(sizes):
        before = int(filled[ends[-1] - 1]) if ends else 0
        end = int(np.searchsorted(filled, before + part_bytes)) + 1
        ends.append(min(end, len(sizes)))
    return np.asarray(ends, dtype=np.int64)


def _digest(catalog: Catalog, plan: Plan, specs: Specs, released: npt.NDArray[np.int64]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    fingerprints = {name: spec.fingerprint for name, spec in specs.items()}
    digest.update(json.dumps([FORMAT, REVISION, fingerprints], sort_keys=True).encode())
    columns: list[npt.NDArray[Any]] = [plan.existing[stage] for stage in STAGES if stage in specs]
    for column in (*columns, plan.metadata, catalog.files.removed):
        digest.update(column[released].astype("<i8").tobytes())
    digest.update(released.astype("<i8").tobytes())
    return digest.hexdigest()
