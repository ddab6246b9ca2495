"""What a catalog lists, and how it is read: the same for its life, so that a night that says less means no other."""

from records.errors import UserError
from storage.catalog import Catalog
from storage.columns import Columns
from storage.faults import redact


def check_source(catalog: Catalog, root: str, source: str, source_format: str | None, columns: Columns) -> None:
    """Sees that a source is the one that a catalog lists.

    Args:
        root: The output, for the error.
        source: As a listing names it.
        source_format: How it is to be read; None for whatever the catalog has.
        columns: Names that the user gave.

    Raises:
        UserError: It is another, or read in another way; ids of another column would be other items.
    """
    name, known_id = redact(source), catalog.columns.get("id", "")
    if catalog.source != source:
        words = f"{redact(catalog.source)}, not {name}"
    elif source_format not in (None, catalog.format):
        words = f"{name} with --format {catalog.format}, not {source_format}"
    elif columns.id and known_id and columns.id != known_id:
        words = f"{name} with --columns id={known_id}, not {columns.id}"
    else:
        return
    raise UserError(f"{root}: its catalog lists {words}: choose another output")
