"""Writes one items file of a release, and beside it what was counted of its rows. Runs in a Ray task, needs no Ray."""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ahead import ahead
from pipeline.plan import NONE
from pipeline.publish_config import PublishConfig
from pipeline.publish_plan import PartTask, ShardSource
from pipeline.publish_rows import aligned, footer_note, release_table, shard_statistics, vectors_of
from pipeline.quality_stats import ReleaseStatistics
from pipeline.reader import live_items
from pipeline.sketches import hash64
from records.errors import ReelscribeError
from records.releases import VIEWS, items_schema
from records.schemas import VectorDtype
from storage.catalog import Catalog
from storage.releases import part_path, release_path, work_path
from storage.stage_tables import StageTables
from storage.stores import Store
from storage.tables import encode_table, parquet_writer, read_table
from storage.uploads import ObjectWriter

SHARDS_AHEAD = 3
"""Shards read while one is written: what a task holds in memory, beside a row group and two pieces."""

DICTIONARY_COLUMNS = ("language", *(f"missing_{view}" for view in VIEWS))
"""Columns of few different values."""
VECTOR_COLUMNS = tuple(f"vector_{view}" for view in VIEWS)
"""Columns of numbers that compress by a few percent at most, and would cost most of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDone:
    """What is known of a written items file."""

    number: int
    rows: int
    size_bytes: int
    sha256: str
    dimension: int
    """D of its vectors; 0 where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartNotes:
    """What was left beside an items file: all that the driver reads of it."""

    done: PartDone
    statistics: ReleaseStatistics
    sample: pa.Table
    """The sampled rows, with `shard_id` behind the columns of a release."""

    def encode(self) -> bytes:
        """As a Parquet file of the sampled rows."""
        footer = {"done": json.dumps(asdict(self.done)), "statistics": self.statistics.encode().decode()}
        return encode_table(self.sample, footer=footer)

    @classmethod
    def read(cls, store: Store, path: str) -> "PartNotes":
        """What `encode` wrote.

        Raises:
            FileNotFoundError: The part is not done.
        """
        table = read_table(store.read_bytes(path))
        footer = table.schema.metadata or {}
        return cls(
            done=PartDone(**json.loads(footer[b"done"])),
            statistics=ReleaseStatistics.decode(footer[b"statistics"]),
            sample=table.replace_schema_metadata(None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWriter:
    """Writes parts. Pickled to the tasks that run it; the stores are opened there."""

    output_uri: str
    release: str
    work: str
    catalog_revision: int
    fingerprints: Mapping[str, str]
    vector_dtype: VectorDtype
    sample_below: int
    config: PublishConfig

    def __call__(self, task: PartTask) -> dict[str, Any]:
        """Writes the items file, then the notes that say so; a part that has notes is left alone.

        Raises:
            FileNotFoundError: A stage file is gone.
            ReelscribeError: A stage file is damaged or lacks an item.
        """
        store = Store.open(self.output_uri)
        if not self._is_done(store, task.number):
            notes = self._write(store, task)
            store.create_many([(part_notes_path(self.release, self.work, task.number), notes.encode())])
        return {}

    def _is_done(self, store: Store, number: int) -> bool:
        try:
            notes = PartNotes.read(store, part_notes_path(self.release, self.work, number))
            return store.size(release_path(self.release, part_path(number))) == notes.done.size_bytes
        except FileNotFoundError:
            return False

    def _write(self, store: Store, task: PartTask) -> PartNotes:
        path = release_path(self.release, part_path(task.number))
        schema = items_schema(self.vector_dtype)
        statistics, samples, dimension = ReleaseStatistics(), [_sample_schema(schema).empty_table()], 0
        store.delete([path])  # a killed task's: the notes, not the file, say that a part is done
        with (
            ObjectWriter(store, path) as file,
            parquet_writer(file, schema, plain=VECTOR_COLUMNS, dictionary=DICTIONARY_COLUMNS) as writer,
        ):
            rows = _RowGroups(writer, schema, self.config.row_group_rows)
            for shard, table, counted in ahead(self._read, task.shards, depth=SHARDS_AHEAD):
                dimension = one_dimension([dimension, *_dimensions(table)])
                statistics = statistics.merged(counted)
                samples.append(self._sampled(table, shard))
                rows.add(table)
            rows.flush()
        if not file.created and store.size(path) != file.size_bytes:
            raise ReelscribeError(f"{store.uri(path)} was written by somebody else: publish again")
        done = PartDone(
            number=task.number,
            rows=statistics.rows,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            dimension=dimension,
        )
        return PartNotes(done=done, statistics=statistics, sample=pa.concat_tables(samples).combine_chunks())

    def _read(self, source: ShardSource) -> tuple[ShardSource, pa.Table, ReleaseStatistics]:
        catalog, stages = _open(self.output_uri, self.catalog_revision)
        items = live_items(catalog, source.shard_id)
        keys = [item.key for item in items]
        generation = source.metadata_generation
        metadata = catalog.read_metadata(source.shard_id, generation) if generation != NONE else {}
        tables: dict[str, pa.Table] = {}
        made_with: dict[str, dict[str, int]] = {}
        for stage, fingerprint in self.fingerprints.items():
            table = stages.read_table(stage, fingerprint, source.shard_id, source.generations[stage])
            made_with[stage] = {footer_note(table.schema.metadata): 1}
            tables[stage] = aligned(stage, table, keys)
        table = release_table(items, metadata, tables, self.vector_dtype)
        return source, table, shard_statistics(table, tables, made_with)

    def _sampled(self, table: pa.Table, shard: ShardSource) -> pa.Table:
        ids: list[Any] = table["video_id"].to_pylist()
        chosen = [hash64(video_id) < self.sample_below for video_id in ids]
        rows = table.filter(pa.array(chosen, pa.bool_()))
        return rows.append_column(
            pa.field("shard_id", pa.string()), pa.array([shard.shard_id] * len(rows), pa.string())
        )


def one_dimension(found: Iterable[int]) -> int:
    """The D that all vectors share; 0 where there are none.

    Raises:
        ReelscribeError: They differ.
    """
    different = sorted({dimension for dimension in found if dimension})
    if len(different) > 1:
        raise ReelscribeError(f"vectors of {different} dimensions under one fingerprint: prune embed, and run it again")
    return different[0] if different else 0


def _dimensions(table: pa.Table) -> list[int]:
    return [vectors_of(table[f"vector_{view}"])[0].shape[1] for view in VIEWS]


class _RowGroups:
    """Gathers tables into row groups of one size."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, rows: int) -> None:
        self._writer = writer
        self._size = rows
        self._waiting = schema.empty_table()

    def add(self, table: pa.Table) -> None:
        """Takes rows, and writes the groups they fill."""
        self._waiting = pa.concat_tables([self._waiting, table])
        while len(self._waiting) >= self._size:
            self._writer.write_table(self._waiting.slice(0, self._size), row_group_size=self._size)
            self._waiting = self._waiting.slice(self._size)

    def flush(self) -> None:
        """Writes what is left."""
        if len(self._waiting):
            self._writer.write_table(self._waiting, row_group_size=self._size)


def _sample_schema(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field("shard_id", pa.string()))


def part_notes_path(release: str, work: str, number: int) -> str:
    """Where a part's notes lie until the release is there."""
    return work_path(release, work, f"part-{number:05d}.parquet")


@functools.lru_cache(maxsize=2)
def _open(output_uri: str, catalog_revision: int) -> tuple[Catalog, StageTables]:
    """Opened once a worker process: which files a revision holds is a list of all shards."""
    store = Store.open(output_uri)
    return Catalog.at(store, catalog_revision), StageTables(store)
