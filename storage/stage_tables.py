"""What the stages made: one immutable Parquet file for a shard, a stage, a fingerprint and a generation.

The file's existence is the commit; that is why it can be created but never changed, and why planning lists and does not
read. Of several generations the highest counts.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import pyarrow as pa

from records.errors import Failure
from records.failures import count_kinds
from records.schemas import StageRow, VectorDtype, failure_columns, stage_rows, stage_schema, stage_table
from storage.stores import Store
from storage.tables import check_types, encode_table, open_parquet, read_table, undamaged

_SUFFIX = ".parquet"
_NAME = re.compile(r"([0-9]{8,})\.([0-9]+)\.parquet")
"""A shard's file; what else lies beside them is nobody's."""
_FAILURES = "failures"
_STREAM_FAILURES = "stream_failures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a stage file says of itself."""

    rows: int
    failures: Mapping[str, int]
    """Kind of failure to how many the file holds, those of single streams included."""
    stream_failures: Mapping[str, int]
    """Of these, the ones of single streams of rows that have a result."""
    values: Mapping[str, str]
    """What made it: run, model, settings, library versions."""


class StageTables:
    """The stage tables of one output.

    Args:
        vector_dtype: Type in which vectors are stored; a reader needs none.
    """

    def __init__(self, store: Store, vector_dtype: VectorDtype = "float32") -> None:
        self._store = store
        self._vector_dtype = vector_dtype

    @property
    def root(self) -> str:
        """The output's URI."""
        return self._store.root

    def fingerprints(self, stage: str) -> list[str]:
        """Fingerprints under which a stage has files, in order."""
        return list(self._store.folders(f"stages/{stage}/"))

    def all_generations(self, stage: str, fingerprint: str) -> Iterator[tuple[str, int]]:
        """Shard and generation of every file, sorted by shard, generations ascending."""
        for shard_id, generation, _ in self.files(stage, fingerprint):
            yield shard_id, generation

    def files(self, stage: str, fingerprint: str) -> Iterator[tuple[str, int, int]]:
        """Shard, generation and size in bytes of every file, sorted by shard, generations ascending; streamed."""
        entries = self._store.list(_folder(stage, fingerprint))
        listed = ((_NAME.fullmatch(entry.path.rpartition("/")[2]), entry.size_bytes) for entry in entries)
        named = ((match[1], int(match[2]), size) for match, size in listed if match is not None)
        # Names sort by shard; 10 sorts before 2, so the few generations of a shard are sorted as numbers here.
        for _, group in groupby(named, key=lambda file: file[0]):
            yield from sorted(group)

    def all_files(self, stage: str, fingerprint: str) -> Iterator[tuple[int, int]]:
        """Shard number and generation of every file, in no order: what a plan is made of.

        A folder gives its names; a bucket is asked once for each thousand.
        """
        for name in self._store.names(_folder(stage, fingerprint)):
            if match := _NAME.fullmatch(name):
                yield int(match[1]), int(match[2])

    def generations(self, stage: str, fingerprint: str) -> Iterator[tuple[str, int]]:
        """Shard and its highest generation, sorted by shard: streamed, so memory does not grow with the catalog."""
        for shard_id, generation, _ in self.newest_files(stage, fingerprint):
            yield shard_id, generation

    def newest_files(self, stage: str, fingerprint: str) -> Iterator[tuple[str, int, int]]:
        """As `generations`, with each file's size in bytes, which saves those that read it a request."""
        for _, files in groupby(self.files(stage, fingerprint), key=lambda file: file[0]):
            yield max(files, key=lambda file: file[1])

    def commit(
        self,
        stage: str,
        fingerprint: str,
        shard_id: str,
        generation: int,
        rows: Sequence[StageRow],
        footer: Mapping[str, str],
    ) -> bool:
        """Writes a shard's file, if there is none.

        Args:
            rows: One for each item of the shard.
            footer: What made them, kept in the file's metadata: library versions and the like.

        Returns:
            True where the file now holds exactly these rows; False where another commit came first, whose rows stand.
        """
        # Arrow makes float16 of float16 only, and rows that a journal kept come back as float32.
        table = stage_table(stage, rows, "float32").cast(stage_schema(stage, self._vector_dtype))
        good = [row.outcome for row in rows if not isinstance(row.outcome, Failure)]
        counts = {_FAILURES: count_kinds(row.outcome for row in rows), _STREAM_FAILURES: count_kinds(good)}
        footer = {**footer, **{name: json.dumps(kinds, sort_keys=True) for name, kinds in counts.items()}}
        return self._store.create(_path(stage, fingerprint, shard_id, generation), encode_table(table, footer=footer))

    def read(self, stage: str, fingerprint: str, shard_id: str, generation: int) -> list[StageRow]:
        """The rows of a file, as they were committed.

        Raises:
            FileNotFoundError: There is no such file.
            ReelscribeError: It is damaged; names it.
        """
        table = self.read_table(stage, fingerprint, shard_id, generation)
        with self._undamaged(_path(stage, fingerprint, shard_id, generation)):
            return stage_rows(stage, table)

    def read_table(
        self,
        stage: str,
        fingerprint: str,
        shard_id: str,
        generation: int,
        columns: Sequence[str] | None = None,
        size_bytes: int | None = None,
    ) -> pa.Table:
        """A file, or some of its columns; of a few columns only their bytes are read. Its schema holds the footer.

        Args:
            size_bytes: The file's, where a listing told it.

        Raises:
            FileNotFoundError: There is no such file.
            ReelscribeError: It is damaged; names it.
        """
        path = _path(stage, fingerprint, shard_id, generation)
        with self._undamaged(path):
            if columns is None:
                table = read_table(self._store.read_bytes(path))
            else:
                with self._store.open_input(path, size_bytes=size_bytes) as file:
                    table = open_parquet(file).read(columns=list(columns))
            check_types(table.schema, stage_schema(stage))
            for value in (table.schema.metadata or {}).values():
                value.decode()  # no checksum covers the footer
            return table

    def footer(
        self, stage: str, fingerprint: str, shard_id: str, generation: int, size_bytes: int | None = None
    ) -> Footer:
        """What a file says of itself, read without its rows: one request where its size is given.

        Raises:
            FileNotFoundError: There is no such file.
            ReelscribeError: It is damaged; names it.
        """
        path = _path(stage, fingerprint, shard_id, generation)
        with self._undamaged(path), self._store.open_input(path, size_bytes=size_bytes) as file:
            parquet = open_parquet(file)
            values = {key.decode(): value.decode() for key, value in (parquet.schema_arrow.metadata or {}).items()}
            counts = {name: _counts(values.pop(name, "{}")) for name in (_FAILURES, _STREAM_FAILURES)}
            return Footer(rows=parquet.metadata.num_rows, **counts, values=values)

    def live_footer(
        self,
        stage: str,
        fingerprint: str,
        shard_id: str,
        generation: int,
        removed: Collection[tuple[str, int]],
        size_bytes: int | None = None,
    ) -> Footer:
        """What `footer` would say without the lines of some items; reads keys and failures where there are any.

        Raises:
            FileNotFoundError: There is no such file.
            ReelscribeError: It is damaged; names it.
        """
        footer = self.footer(stage, fingerprint, shard_id, generation, size_bytes)
        if not removed:
            return footer
        columns = failure_columns(stage)
        keys = ["video_id", "version"]
        table = self.read_table(stage, fingerprint, shard_id, generation, [*keys, *columns], size_bytes)
        with self._undamaged(_path(stage, fingerprint, shard_id, generation)):
            live = [line for line in table.to_pylist() if (line["video_id"], line["version"]) not in removed]
            kinds = Counter(line[column]["kind"] for line in live for column in columns if line[column] is not None)
            rows = Counter(line["error"]["kind"] for line in live if line["error"] is not None)
        return replace(footer, rows=len(live), failures=dict(kinds), stream_failures=dict(kinds - rows))

    def delete(self, stage: str, fingerprint: str, files: Sequence[tuple[str, int]]) -> None:
        """Removes files by shard and generation; those that are gone already are no error."""
        self._store.delete([_path(stage, fingerprint, shard_id, generation) for shard_id, generation in files])

    def _undamaged(self, path: str) -> contextlib.AbstractContextManager[None]:
        return undamaged(self._store.uri(path), "delete it, and its items run again")


def _counts(text: str) -> dict[str, int]:
    return {str(kind): int(count) for kind, count in dict(json.loads(text)).items()}


def _folder(stage: str, fingerprint: str) -> str:
    return f"stages/{stage}/{fingerprint}/"


def _path(stage: str, fingerprint: str, shard_id: str, generation: int) -> str:
    return f"{_folder(stage, fingerprint)}{shard_id}.{generation}{_SUFFIX}"
