"""Listing a source into the catalog: the part that `jobs.annotate` and `jobs.catalog` share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.plan import next_generation
from pipeline.reader import fetchable_items
from records.errors import UserError
from records.items import Metadata
from records.outcomes import STAGES
from storage.catalog import Catalog
from storage.catalog_change import CatalogChange
from storage.catalog_objects import read_objects
from storage.catalog_refresh import refresh
from storage.catalog_source import check_source
from storage.columns import Columns, parse_columns
from storage.leases import Check, unchecked
from storage.metadata import read_metadata
from storage.signed_urls import unsigned
from storage.source_items import SourceItem
from storage.sources import Source, SourceFormat, open_source
from storage.stage_tables import StageTables
from storage.stores import Store


def list_into_catalog(
    store: Store,
    *,
    source: str | None,
    metadata: str | None,
    shard_size: int,
    refresh_known: bool,
    first_items: int | None = None,
    source_format: str | None = None,
    columns: str | None = None,
    order_by: str | None = None,
    check: Check = unchecked,
) -> CatalogChange | None:
    """Lists the source where there is no catalog yet, where asked to, or where there is metadata to take in.

    The caller holds the output's lease.

    Args:
        first_items: With a new catalog, how many items its first shard gets: those of a first try.
        source_format: How the source is to be read; None for what the catalog has, or what the source shows.
        columns: Names of the columns of a list or Parquet file, as `parse_columns` takes them; where one is not named,
            the name that the catalog has for it.
        order_by: A numeric metadata column by which new items are cut into shards, its high values first.
        check: Of the lease that the caller holds: called before each write.

    Returns:
        What changed; None where nothing was listed.

    Raises:
        UserError: There is neither a catalog nor a source, the catalog lists another, or it cannot be listed.
    """
    source = normal_source(source) if source is not None else None
    named = parse_columns(columns) if columns is not None else Columns()
    catalog = _catalog_for(store, source, source_format, named)
    if catalog is not None and not refresh_known and metadata is None:
        return None
    where = source if source is not None else str(catalog and catalog.source)
    titles: Iterator[tuple[str, Metadata]] | None = read_metadata(metadata) if metadata is not None else None
    if catalog is not None:
        named = named.over(catalog.columns)
    if catalog is None or refresh_known:
        given = _opened(where, source_format, named, store, catalog)
        listing, listed_as = given.items(), str(given.format)
        titles = given.titles() if titles is None else titles
    else:
        listing, listed_as = known_items(catalog), source_format or catalog.format
    generations = next_generation(
        StageTables(store), catalog.highest_generations() if catalog is not None else np.empty(0, dtype=np.int32)
    )
    return refresh(
        store,
        listing,
        titles,
        unsigned(where),
        shard_size,
        generations,
        first_items,
        order_by=order_by,
        source_format=listed_as,
        columns=named,
        check=check,
    )


def _catalog_for(store: Store, source: str | None, source_format: str | None, columns: Columns) -> Catalog | None:
    """The catalog there is, which must be one of this source; None where the source is to be its first listing.

    Raises:
        UserError: There is neither a catalog nor a source, or they do not go together.
    """
    catalog = Catalog.open(store)
    if catalog is None:
        if source is None:
            raise UserError(f"{store.root} has no catalog yet: --source says what to describe")
        _refuse_tables_of_another(store)
    elif source is not None:
        check_source(catalog, store.root, unsigned(source), source_format, columns)
    return catalog


def _opened(source: str, source_format: str | None, columns: Columns, store: Store, catalog: Catalog | None) -> Source:
    """The source, read as it was before unless the caller says how; of files that the catalog has, it reads none."""
    known_format = source_format or (catalog.format if catalog is not None else None)
    return open_source(
        source,
        format=SourceFormat(known_format) if known_format is not None else None,
        columns=columns,
        known=read_objects(store, catalog.index_folder) if catalog is not None else {},
    )


def _refuse_tables_of_another(store: Store) -> None:
    """A shard's number means other items in another catalog: what lies there would count as theirs.

    Raises:
        UserError: There are stage tables.
    """
    tables = StageTables(store)
    if any(tables.fingerprints(stage) for stage in STAGES):
        raise UserError(
            f"{store.root} has stage tables and no catalog, and they belong to the one that was there: bring catalog/ "
            "back, list into another output, or remove stages/"
        )


def check_listed(store: Store, *, listing: bool) -> None:
    """Refuses what a run of some shards cannot do: it holds no lease on the catalog.

    Args:
        store: The output.
        listing: Whether the command line asks for a listing.

    Raises:
        UserError: It does, or there is no catalog yet.
    """
    if listing or Catalog.open(store) is None:
        raise UserError(
            f"{store.root}: --shard-range works on a catalog that is there and stays as it is: "
            "list with `python -m jobs.catalog` before, while no run is active"
        )


def normal_source(uri: str) -> str:
    """One name for one source, whatever the working directory: absolute paths, no slash at the end.

    Raises:
        UserError: It is empty, as from a variable that is not set, or no Unicode.
    """
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise UserError(f"--source {uri!a} is no Unicode: rename that folder, or reach it over a link") from None
    path = uri.removeprefix("file://")
    if not path:
        raise UserError("--source is empty")
    scheme, separator, rest = path.partition("://")
    return f"{scheme.lower()}{separator}{rest}".rstrip("/") if separator else str(Path(path).expanduser().resolve())


def known_items(catalog: Catalog) -> Iterator[SourceItem]:
    """The catalog's live items as a listing that changes nothing, to take metadata in without asking the source."""
    for shard_id in catalog.shard_ids():
        # A table replaces what an earlier table said; over what the source itself says, it is laid.
        stated = catalog.newest_metadata(shard_id) if catalog.format != SourceFormat.FILES else {}
        for item in fetchable_items(catalog, shard_id).values():
            yield SourceItem(
                video_id=item.video_id,
                uri=item.uri,
                size_bytes=item.size_bytes,
                etag=item.etag,
                byte_offset=item.byte_offset,
                row_index=item.row_index,
                column=item.column,
                metadata=stated.get(item.key),
            )


def describe(change: CatalogChange) -> str:
    """One line that says what a listing changed."""
    parts = [
        f"{change.new} new",
        f"{change.changed} changed",
        f"{change.deleted} deleted",
        f"{change.unchanged} unchanged",
        f"{change.metadata_changed} with changed metadata",
    ]
    if change.relocated:
        parts.append(f"{change.relocated} with a new URL")
    if change.returned:
        parts.append(f"{change.returned} back as they were")
    line = f"catalog revision {change.revision}: {', '.join(parts)}"
    for reason, count in change.left_out.items():
        names = change.left_out_names[reason]
        line += f"; left out as {reason}: {count} ({', '.join(names)}{', …' if count > len(names) else ''})"
    if change.metadata_unmatched:
        line += f"; {change.metadata_unmatched} metadata lines match no item"
    if change.metadata_repeated:
        line += f"; {change.metadata_repeated} metadata lines repeat an id, whose first line counts"
    return line
