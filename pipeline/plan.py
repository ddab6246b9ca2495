"""What is left to do, as `make` would find it: list the files there are, subtract, never read one.

A stage's file for a shard is missing, stale (a stage it reads, or the metadata, has a higher generation) or done.
Time and memory are O(shards): one integer a stage and shard.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.spec import Specs
from records.errors import Failure
from records.outcomes import STAGES

Generations = npt.NDArray[np.int32]
"""One integer a shard; -1 where there is no file."""

NONE = -1


class FileLists(Protocol):
    """What planning asks of storage: which generation of each file is there."""

    def all_files(self, stage: str, fingerprint: str) -> Iterable[tuple[int, int]]:
        """(shard number, generation) of every file of a stage, in any order. Called from several threads."""
        ...

    def fingerprints(self, stage: str) -> Iterable[str]:
        """Every fingerprint that has files of this stage."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """What one shard needs: handed to the worker that reads it and to the committer."""

    shard_id: str
    targets: Mapping[str, int]
    """Pending stage to the generation its file will have."""
    existing: Mapping[str, int]
    """Stage to the generation there is, for every stage of the graph that has a file."""
    metadata_generation: int = NONE
    retry: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Stage to the kinds of failure that are to run again."""
    skip: int = 0
    """Bit n is set where the item at position n is not to be issued: a journal or an earlier pass has it."""
    preset: Mapping[tuple[str, int], Mapping[str, Failure]] = field(default_factory=dict)
    """Item to stage to the failure it has already: the stage that killed its worker is not run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every shard of a catalog against every stage of a graph."""

    shard_ids: Sequence[str]
    existing: Mapping[str, Generations]
    targets: Mapping[str, Generations]
    """`NONE` where a stage is not pending."""
    metadata: Generations
    """Generation of each shard's metadata file."""
    blocked: Mapping[str, int]
    """Stage to the number of shards where a stage it reads is missing and was not selected."""
    retry: Mapping[str, Mapping[int, frozenset[str]]]
    """Stage to shard index to the kinds of failure that run again."""
    order: npt.NDArray[np.int64]
    """Indices of the pending shards, in the order in which they are to run."""

    @property
    def pending_shards(self) -> int:
        """Shards with work."""
        return len(self.order)

    def ordered(self, priority: npt.NDArray[np.float64]) -> "Plan":
        """The same plan with the shards of high priority first; equal ones stay in the catalog's order, NaN goes last.

        Args:
            priority: (S,) one number a shard of the catalog.
        """
        return replace(self, order=self.order[np.argsort(-priority[self.order], kind="stable")])

    def first(self, shards: int) -> "Plan":
        """The same plan cut after so many of its pending shards."""
        return replace(self, order=self.order[:shards])

    def pending_of(self, stage: str) -> int:
        """Shards in which this stage is pending."""
        return int(np.count_nonzero(self.targets[stage][self.order] != NONE))

    def tasks(self) -> Iterator[ShardTask]:
        """The shards with work, made one at a time."""
        for index in self.order.tolist():
            yield self.task(index)

    def task(self, index: int) -> ShardTask:
        """The task of the shard at `index` of the catalog."""
        return ShardTask(
            shard_id=self.shard_ids[index],
            targets={stage: int(of[index]) for stage, of in self.targets.items() if of[index] != NONE},
            existing={stage: int(of[index]) for stage, of in self.existing.items() if of[index] != NONE},
            metadata_generation=int(self.metadata[index]),
            retry={stage: kinds[index] for stage, kinds in self.retry.items() if index in kinds},
        )


def as_array(files: Iterable[tuple[int, int]], shards: int) -> Generations:
    """A listing as one integer a shard, the highest; files of shards that the catalog does not have are left out."""
    highest = [NONE] * shards
    for index, generation in files:
        if index < shards and generation > highest[index]:
            highest[index] = generation
    return np.asarray(highest, dtype=np.int32)


def list_stages(tables: FileLists, wanted: Mapping[str, str], shards: int) -> dict[str, Generations]:
    """Stage to the highest generation of each shard, for stages and their fingerprints; listed side by side."""
    with ThreadPoolExecutor(max(len(wanted), 1), thread_name_prefix="list") as pool:
        found = {
            stage: pool.submit(lambda *of: as_array(tables.all_files(*of), shards), stage, fingerprint)
            for stage, fingerprint in wanted.items()
        }
        return {stage: listed.result() for stage, listed in found.items()}


def make_plan(
    *,
    shard_ids: Sequence[str],
    tables: FileLists,
    metadata: Generations,
    titles: Generations,
    specs: Specs,
    selected: Iterable[str],
    returned: Generations | None = None,
    retry: Mapping[str, Mapping[int, frozenset[str]]] | None = None,
    whole: Plan | None = None,
    shard_range: range | None = None,
) -> Plan:
    """Lists what is there and subtracts it.

    Args:
        shard_ids: Every shard of the catalog; a shard's index is its number.
        tables: Where the stage files are listed.
        metadata: (S,) generation of each shard's metadata file.
        titles: (S,) generation in which a title of each shard last changed.
        specs: The whole graph.
        selected: Stages that this run may work on.
        returned: (S,) generation that every file of a shard must reach since deleted items of it came back.
        retry: Stage to shard index to kinds of failure that are to run again, and what is made from them, but nothing
            that is missing; None for a run that is no retry.
        whole: Of a retry in phases the plan of all: what it leaves out stays out.
        shard_range: Indices of the shards this run may touch; None for all.
    """
    shards = len(shard_ids)
    existing = list_stages(tables, {name: spec.fingerprint for name, spec in specs.items()}, shards)
    floor = np.zeros(shards, dtype=np.int32) if returned is None else np.maximum(returned, 0)
    highest = functools.cache(lambda: _highest(tables, np.maximum(metadata, floor)))
    others = functools.partial(_under_others, tables, specs, shards)
    targets, blocked = _targets(specs, set(selected), existing, titles, floor, highest, others)
    if retry is not None:
        again = _add_retries(specs, targets, existing, retry, highest)
        for name, target in targets.items():
            target[~again[name] if whole is None else whole.targets[name] == NONE] = NONE
    allowed = np.zeros(shards, dtype=bool)
    allowed[slice(None) if shard_range is None else slice(shard_range.start, shard_range.stop)] = True
    pending = np.zeros(shards, dtype=bool)
    for target in targets.values():
        target[~allowed] = NONE
        pending |= target != NONE
    return Plan(
        shard_ids=shard_ids,
        existing=existing,
        targets=targets,
        metadata=metadata,
        blocked=blocked,
        retry=dict(retry or {}),
        order=np.flatnonzero(pending),
    )


def _targets(
    specs: Specs,
    selected: set[str],
    existing: Mapping[str, Generations],
    meta: Generations,
    floor: Generations,
    highest: Callable[[], Generations],
    others: Callable[[str], npt.NDArray[np.bool_]],
) -> tuple[dict[str, Generations], dict[str, int]]:
    """Which file each stage must write next, and where it cannot because an input is missing.

    A file that was deleted although others were made from it comes back above all that the shard has seen, since it
    may say something else now. What reads `decode` takes one of its streams and has that one's fingerprint alone: where
    there is a file of other settings, it was made from that, and the stream that is the same leaves it as it is.
    """
    made_from = _made_from(specs, existing)
    after: dict[str, Generations] = {}
    targets: dict[str, Generations] = {}
    blocked: dict[str, int] = {}
    for name, spec in specs.items():
        have = existing[name]
        needed = np.maximum(meta, floor) if spec.reads_metadata else floor
        ready = np.ones(len(have), dtype=bool)
        for upstream in spec.reads:
            needed = np.maximum(needed, after[upstream])
            ready &= after[upstream] != NONE
        deleted = (have == NONE) & made_from[name]
        if deleted.any() and not spec.reads:
            deleted &= ~others(name)
        if deleted.any():
            needed = np.where(deleted, np.maximum(needed, highest() + 1), needed)
        stale = have < needed
        if name not in selected:
            after[name] = have
            continue
        blocked[name] = int(np.count_nonzero(stale & ~ready))
        targets[name] = np.where(stale & ready, needed, NONE).astype(np.int32)
        after[name] = np.maximum(have, targets[name])
    return targets, {stage: count for stage, count in blocked.items() if count}


def _under_others(tables: FileLists, specs: Specs, shards: int, stage: str) -> npt.NDArray[np.bool_]:
    """(S,) whether a shard has a file of a stage under another fingerprint than its own."""
    found = np.zeros(shards, dtype=bool)
    for fingerprint in set(tables.fingerprints(stage)) - {specs[stage].fingerprint}:
        found |= as_array(tables.all_files(stage, fingerprint), shards) != NONE
    return found


def _made_from(specs: Specs, existing: Mapping[str, Generations]) -> dict[str, npt.NDArray[np.bool_]]:
    """Stage to the shards that have a file made from the stage's own."""
    made_from = {name: np.zeros(len(have), dtype=bool) for name, have in existing.items()}
    for name, spec in reversed(list(specs.items())):
        for upstream in spec.reads:
            made_from[upstream] |= (existing[name] != NONE) | made_from[name]
    return made_from


def _highest(tables: FileLists, meta: Generations) -> Generations:
    """The highest generation of each shard over every stage and every fingerprint, current or not."""
    highest = meta.copy()
    for stage in STAGES:
        for fingerprint in tables.fingerprints(stage):
            highest = np.maximum(highest, as_array(tables.all_files(stage, fingerprint), len(meta)))
    return highest


def _add_retries(
    specs: Specs,
    targets: dict[str, Generations],
    existing: Mapping[str, Generations],
    retry: Mapping[str, Mapping[int, frozenset[str]]],
    highest: Callable[[], Generations],
) -> dict[str, npt.NDArray[np.bool_]]:
    """Gives every retried stage, and all made from it, a generation above any the shard has seen; says where."""
    again: dict[str, npt.NDArray[np.bool_]] = {}
    for name, spec in specs.items():
        mask = np.zeros(len(existing[name]), dtype=bool)
        mask[list(retry.get(name, {}))] = True
        for upstream in spec.reads:
            mask |= again[upstream]
        again[name] = mask & (existing[name] != NONE)
        if name in targets and again[name].any():
            targets[name][again[name]] = highest()[again[name]] + 1
    return again


def next_generation(tables: FileLists, generations: Generations) -> Callable[[str], int]:
    """A function from shard id to the generation that makes every stage file of that shard look old.

    The files are listed when it is called first: a listing that changes nothing known never asks.

    Args:
        tables: The stage files.
        generations: (S,) highest generation that the catalog itself has given each shard.
    """
    listed: list[Generations] = []

    def above(shard_id: str) -> int:
        if not listed:
            listed.append(_highest(tables, generations))
        return int(listed[0][int(shard_id)]) + 1 if int(shard_id) < len(generations) else 0

    return above
