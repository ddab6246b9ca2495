"""What a source lists, for tests: its items by id, and what it leaves out by reason."""

from collections import defaultdict

from storage.columns import Columns, parse_columns
from storage.source_items import LeftOut, SourceItem
from storage.sources import SourceFormat, open_source


def listed(uri: str, format: str | None = None, columns: str = "") -> tuple[list[SourceItem], dict[str, list[str]]]:
    """The items in order, and the names of what was left out by reason."""
    source = open_source(
        uri,
        format=None if format is None else SourceFormat(format),
        columns=parse_columns(columns) if columns else Columns(),
    )
    items: list[SourceItem] = []
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    for entry in source.items():
        if isinstance(entry, LeftOut):
            assert "\n" not in entry.name
            left_out[entry.reason.value].append(entry.name)
        elif isinstance(entry, SourceItem):
            items.append(entry)
    return items, dict(left_out)
