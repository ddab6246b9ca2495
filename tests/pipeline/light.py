"""A small graph in memory for the pipeline's pure parts: two media stages and a text stage, no engines, no Ray."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.plan import FileLists, Plan, ShardTask, as_array, make_plan
from pipeline.spec import Specs, StageSpec
from records.errors import Failure, FailureKind
from records.items import CatalogItem
from records.outcomes import Caption, Embedding, MediaFacts, Outcome, View
from records.schemas import JournalRow, StageRow

Key = tuple[str, int]


def nothing() -> None:
    """Stands where a worker would build a stage; these graphs never do."""
    raise AssertionError("no stage is built here")


SPECS: Specs = {
    "decode": StageSpec(name="decode", fingerprint="d1", build=nothing),
    "caption": StageSpec(name="caption", fingerprint="c1", reads=("decode",), modality="video", build=nothing),
    "embed": StageSpec(name="embed", fingerprint="e1", reads=("caption",), reads_metadata=True, build=nothing),
}


def item(video_id: str) -> CatalogItem:
    return CatalogItem(video_id=video_id, version=1, uri=f"/clips/{video_id}", size_bytes=1, etag="e")


def outcome(stage: str, video_id: str) -> Outcome:
    """What the light graph makes of an item: text that names it."""
    if stage == "decode":
        return MediaFacts(duration_seconds=1.0, has_video=True, has_audio=False, video_codec=video_id)
    if stage == "caption":
        return Caption(text=f"caption of {video_id}")
    view = View(document=f"document of {video_id}", vector=None)
    return Embedding(video=view, audio=view, metadata=view, all=view)


def failure(stage: str, kind: FailureKind = FailureKind.CORRUPT) -> Failure:
    return Failure(stage=stage, kind=kind, message="broken")


@dataclass
class MemoryTables:
    """Stage tables as a dictionary, create-only like the real ones."""

    files: dict[tuple[str, str, str, int], list[StageRow]] = field(default_factory=dict)

    def generations(self, stage: str, fingerprint: str) -> Iterable[tuple[str, int]]:
        highest: dict[str, int] = {}
        for found, of, shard_id, generation in self.files:
            if (found, of) == (stage, fingerprint):
                highest[shard_id] = max(highest.get(shard_id, -1), generation)
        return sorted(highest.items())

    def all_files(self, stage: str, fingerprint: str) -> Iterable[tuple[int, int]]:
        return [
            (int(shard_id), number) for found, of, shard_id, number in self.files if (found, of) == (stage, fingerprint)
        ]

    def fingerprints(self, stage: str) -> Iterable[str]:
        return sorted({of for found, of, _, _ in self.files if found == stage})

    def read(self, stage: str, fingerprint: str, shard_id: str, generation: int) -> list[StageRow]:
        return self.files[stage, fingerprint, shard_id, generation]

    def commit(
        self,
        stage: str,
        fingerprint: str,
        shard_id: str,
        generation: int,
        rows: Sequence[StageRow],
        footer: Mapping[str, str],
    ) -> bool:
        return self.files.setdefault((stage, fingerprint, shard_id, generation), list(rows)) == list(rows)

    def newest(self, stage: str, shard_id: str) -> list[StageRow]:
        generation = dict(self.generations(stage, SPECS[stage].fingerprint))[shard_id]
        return self.files[stage, SPECS[stage].fingerprint, shard_id, generation]


@dataclass
class MemoryJournal:
    """A journal as a list; it outlives the committer like the real one."""

    rows: list[JournalRow] = field(default_factory=list)

    def append(self, rows: Sequence[JournalRow]) -> int:
        self.rows.extend(rows)
        return 0

    def read(self, shard_id: str) -> list[JournalRow]:
        return [row for row in self.rows if row.shard_id == shard_id]

    def forget(self, shard_id: str) -> None:
        self.rows = [row for row in self.rows if row.shard_id != shard_id]


def plan_for(
    tables: FileLists,
    shards: int,
    *,
    specs: Specs = SPECS,
    selected: Iterable[str] | None = None,
    metadata: Mapping[int, int] | None = None,
    returned: Mapping[int, int] | None = None,
    retry: Mapping[str, Mapping[int, frozenset[str]]] | None = None,
    whole: Plan | None = None,
) -> Plan:
    return make_plan(
        shard_ids=[f"{number:08d}" for number in range(shards)],
        tables=tables,
        metadata=as_array((metadata or {}).items(), shards),
        titles=as_array((metadata or {}).items(), shards),
        returned=as_array((returned or {}).items(), shards),
        specs=specs,
        selected=specs if selected is None else selected,
        retry=retry,
        whole=whole,
    )


def tasks_by_shard(plan: Plan) -> dict[str, ShardTask]:
    return {task.shard_id: task for task in plan.tasks()}
