"""Which column of a list or a Parquet file says what: by documented names, or as the user says."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from records.errors import UserError

ID_COLUMNS = ("video_id", "item", "id")
URI_COLUMNS = ("uri", "url", "path", "file_name")
TITLE_COLUMNS = ("title",)
SIZE_COLUMNS = ("size_bytes",)
ETAG_COLUMNS = ("etag",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names the user gave; an empty one is looked for under its usual names."""

    id: str = ""
    uri: str = ""
    title: str = ""
    bytes: str = ""
    """Of a Parquet file: the column that holds the videos, as `video` or `video.bytes`."""

    def given(self) -> dict[str, str]:
        """Role to name, of those that were given."""
        return {role: name for role, name in asdict(self).items() if name}

    def over(self, before: Mapping[str, str]) -> "Columns":
        """These, and for the others those that were given before."""
        known = {field.name: before.get(field.name, "") for field in fields(self)}
        return replace(Columns(**known), **self.given())


def parse_columns(text: str) -> Columns:
    """Columns as `id=clip,uri=where`.

    Raises:
        UserError: It is not of that form, or names something else.
    """
    given: dict[str, str] = {}
    known = [field.name for field in fields(Columns)]
    for part in text.split(","):
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or not name or role not in known:
            raise UserError(
                f"--columns {text}: write {' or '.join(f'{role}=NAME' for role in known)}, with commas between"
            )
        given[role] = name
    return Columns(**given)


def chosen(columns: Sequence[str], given: str, usual: Sequence[str]) -> str | None:
    """The column that is meant: the given one, else the first usual name that is there, whatever its case; or None."""
    if given:
        return given if given in columns else None
    by_lower = {column.lower(): column for column in reversed(columns)}
    return next((by_lower[name] for name in usual if name in by_lower), None)


def required(where: str, columns: Sequence[str], role: str, given: str, usual: Sequence[str]) -> str:
    """The column that is meant.

    Raises:
        UserError: There is none; names the columns that are there, and the nearest.
    """
    found = chosen(columns, given, usual)
    if found is not None:
        return found
    wanted = given or " or ".join(usual)
    raise UserError(f"{where}: no column {wanted} among {_listed(columns)}{_hint(columns, role, given, usual)}")


def _hint(columns: Sequence[str], role: str, given: str, usual: Iterable[str]) -> str:
    mark = next((mark for mark in ";\t|" if len(columns) == 1 and mark in columns[0]), None)
    if mark is not None:
        return f"; the cells of a .csv have commas between, of a .tsv tabs: here they have {mark!r}"
    for name in (given,) if given else usual:
        near = difflib.get_close_matches(name, columns, n=1)
        if near:
            return f"; did you mean --columns {role}={near[0]}?"
    return f"; name it with --columns {role}=NAME"


def _listed(columns: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(columns[:most])
    return f"{shown} and {len(columns) - most} more" if len(columns) > most else shown or "none"
