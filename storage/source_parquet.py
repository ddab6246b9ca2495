"""A source of Parquet files that hold the videos themselves in a column of bytes.

The column is the one that holds bytes, or the part `bytes` of one as Hugging Face `datasets` write it
(`video: struct<bytes: binary, path: string>`). Listing reads the other columns alone. An item is a row of a file; its
size is known where there is a column `size_bytes`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from records.errors import ReelscribeError, UserError
from records.items import Metadata
from storage.catalog_objects import Known, walk
from storage.columns import ID_COLUMNS, SIZE_COLUMNS, TITLE_COLUMNS, Columns, chosen, required
from storage.line_files import holds_bytes, is_bytes, is_text, text_of
from storage.prefetch import in_order
from storage.source_items import LeftOut, LeftOutReason, ListedObject, SourceItem, media_extension, shown
from storage.source_objects import SourceObject, broken_file, has_unicode_name, source_objects

PARQUET_ENDINGS = (".parquet",)
_BATCH_ROWS = 8192
_FILES_AT_ONCE = 8
_READ_AS = "parquet 1"
"""To be raised where the same file is to give other items: then every file is read again."""


@dataclass(slots=True)
class ParquetSource:
    """The Parquet files of a folder or prefix, or one file."""

    uri: str
    columns: Columns
    known: Known

    def items(self) -> Iterator[SourceItem | LeftOut | ListedObject]:
        """One item a row, in the order of the files and within them.

        Raises:
            UserError: A file has no column of bytes or of ids, or one of another type.
        """
        read_as = f"{_READ_AS} {self.columns}"
        return in_order(
            source_objects(self.uri, PARQUET_ENDINGS),
            lambda source: walk(source, self.known, read_as, self._file_items),
            at_once=_FILES_AT_ONCE,
        )

    def titles(self) -> Iterator[tuple[str, Metadata]]:
        """None: each row carries its own."""
        return iter(())

    def _file_items(self, source: SourceObject) -> Iterator[SourceItem | LeftOut]:
        if not has_unicode_name(source):
            yield LeftOut(reason=LeftOutReason.BROKEN_FILE, name=f"{shown(source.entry.path)}: its name is no Unicode")
            return
        try:
            with source.store.open_input(source.entry.path) as file:
                table = pq.ParquetFile(file)
                roles = _Roles.of(source.name, table.schema_arrow, self.columns)
                read = [*roles.plain, *([roles.id] if roles.id not in roles.plain else [])]
                row = 0
                for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=read):
                    for line in batch.to_pylist():
                        yield _item(source, roles, row, line)
                        row += 1
        except (ReelscribeError, MemoryError):  # Arrow's is an ArrowException
            raise
        except (pa.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:  # as in storage.line_files
            yield broken_file(source, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Roles:
    """Columns of one file."""

    id: str
    """With a dot where it is the path inside a struct."""
    bytes: str
    title: str | None
    size: str | None
    plain: Sequence[str]
    """Those that hold no bytes."""

    @classmethod
    def of(cls, where: str, schema: pa.Schema, columns: Columns) -> "_Roles":
        plain = [field.name for field in schema if not holds_bytes(field.type)]
        column = bytes_column(where, schema, columns.bytes)
        path = f"{column.rpartition('.')[0]}.path"
        if not columns.id and chosen(plain, "", ID_COLUMNS) is None and _type_of(schema, path) is not None:
            identity = path
        else:
            identity = required(where, plain, "id", columns.id, ID_COLUMNS)
        kind = _type_of(schema, identity)
        if kind is None or not (is_text(kind) or pa.types.is_integer(kind)):
            raise UserError(f"{where}: the ids in column {identity} are {kind}, neither text nor whole numbers")
        if columns.title:
            required(where, plain, "title", columns.title, TITLE_COLUMNS)
        return cls(
            id=identity,
            bytes=column,
            title=chosen(plain, columns.title, TITLE_COLUMNS),
            size=chosen(plain, "", SIZE_COLUMNS),
            plain=plain,
        )


def bytes_columns(schema: pa.Schema) -> list[str]:
    """The columns that hold bytes, or parts of a struct as `video.bytes`."""
    found = [field.name for field in schema if is_bytes(field.type)]
    for field in schema:
        if pa.types.is_struct(field.type):
            parts = (field.type.field(index) for index in range(field.type.num_fields))
            found += [f"{field.name}.{part.name}" for part in parts if is_bytes(part.type)]
    return found


def bytes_column(where: str, schema: pa.Schema, given: str) -> str:
    """The one column that holds the videos.

    Raises:
        UserError: There is none, there are several, or the one that was named holds something else.
    """
    found = bytes_columns(schema)
    if given:
        chosen_ones = [column for column in found if column in (given, f"{given}.bytes")]
        if chosen_ones:
            return chosen_ones[0]
        kind = _type_of(schema, given)
        raise UserError(
            f"{where}: there is no column {given} among {', '.join(schema.names)}"
            if kind is None
            else f"{where}: column {given} is {kind}, not bytes"
        )
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{where}: {' and '.join(found)} hold bytes: say which with --columns bytes={found[0]}")
    types = ", ".join(f"{field.name} is {field.type}" for field in list(schema)[:12])
    raise UserError(f"{where}: no column holds bytes: {types}")


def _type_of(schema: pa.Schema, column: str) -> pa.DataType | None:
    """A column's type, or that of a part of a struct; None where there is none."""
    if column in schema.names:
        return _field_type(schema.field(column))
    name, _, part = column.partition(".")
    if name not in schema.names or not pa.types.is_struct(schema.field(name).type):
        return None
    struct = schema.field(name).type
    index = struct.get_field_index(part)
    if index < 0:
        return None
    return _field_type(struct.field(index))


def _field_type(field: "pa.Field[Any]") -> pa.DataType:
    """A field's type."""
    kind: pa.DataType = field.type
    return kind


def _item(source: SourceObject, roles: _Roles, row: int, line: Mapping[str, Any]) -> SourceItem:
    value = line.get(roles.id) if roles.id in line else _part(line, roles.id)
    video_id = text_of(value)
    if roles.id not in roles.plain and media_extension(video_id):
        video_id = video_id.rpartition(".")[0]
    used = {roles.id, roles.title, roles.size, roles.bytes}
    size = line[roles.size] if roles.size is not None else None
    if size is not None and (not isinstance(size, int) or size < 0):
        raise UserError(f"{source.name}: row {row}: {roles.size} is no whole number of bytes: {size}")
    others = [name for name in roles.plain if name not in used]
    metadata = Metadata(
        title=text_of(line[roles.title]) if roles.title is not None else "",
        extra={name: text for name in others if (text := text_of(line[name]))},
    )
    return SourceItem(
        video_id=video_id,
        uri=source.uri,
        size_bytes=size,
        etag=source.entry.etag,
        row_index=row,
        column=roles.bytes,
        metadata=metadata if others or roles.title is not None else None,
    )


def _part(line: Mapping[str, Any], column: str) -> object:
    name, _, part = column.partition(".")
    struct = line.get(name)
    return struct.get(part) if isinstance(struct, dict) else None
