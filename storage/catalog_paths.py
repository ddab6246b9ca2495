"""Names of the catalog's files, each with the attempt that wrote it, so that no listing writes what another reads."""

import re
import secrets

from storage.shard_files import NONE
from storage.shard_ids import shard_name

FOLDER = "catalog/"
REVISIONS = f"{FOLDER}revisions/"

_ATTEMPT_BITS = 48
_ATTEMPT = r"(\.[0-9a-f]{12})?"
_NAMES = {
    "revisions": re.compile(rf"\d{{8,}}(\.json|{_ATTEMPT}\.shards\.parquet)"),
    "shards": re.compile(rf"\d{{8,}}{_ATTEMPT}\.parquet"),
    "removed": re.compile(rf"\d{{8,}}\.\d+{_ATTEMPT}\.parquet"),
    "metadata": re.compile(rf"\d{{8,}}\.\d+{_ATTEMPT}\.parquet"),
    "locations": re.compile(rf"\d{{8,}}\.\d+{_ATTEMPT}\.parquet"),
    "index": re.compile(rf"\d{{8,}}{_ATTEMPT}/(items-\d{{4,}}|objects)\.parquet"),
}


def new_attempt() -> int:
    """A number that no other listing has."""
    return secrets.randbits(_ATTEMPT_BITS)


def _suffix(attempt: int) -> str:
    return "" if attempt == NONE else f".{attempt:012x}"


def is_catalog_file(path: str) -> bool:
    """Whether a listing may have written a file of this name."""
    _, kind, name = [*path.split("/", 2), "", ""][:3]
    return kind in _NAMES and _NAMES[kind].fullmatch(name) is not None


def is_of_attempt(path: str, attempt: int) -> bool:
    """Whether a listing file has this attempt in its name."""
    return is_catalog_file(path) and _suffix(attempt) in path


def revision_path(revision: int) -> str:
    """The file whose creation commits a listing."""
    return f"{REVISIONS}{revision:08d}.json"


def shard_files_path(revision: int, attempt: int = NONE) -> str:
    """The table of `ShardFiles`."""
    return f"{REVISIONS}{revision:08d}{_suffix(attempt)}.shards.parquet"


def shard_path(number: int, attempt: int = NONE) -> str:
    """A shard's items."""
    return f"{FOLDER}shards/{shard_name(number)}{_suffix(attempt)}.parquet"


def removed_path(number: int, revision: int, attempt: int = NONE) -> str:
    """A shard's items that are no longer live, at a revision."""
    return f"{FOLDER}removed/{shard_name(number)}.{revision}{_suffix(attempt)}.parquet"


def locations_path(number: int, revision: int, attempt: int = NONE) -> str:
    """A shard's presigned URLs, at a revision."""
    return f"{FOLDER}locations/{shard_name(number)}.{revision}{_suffix(attempt)}.parquet"


def metadata_path(number: int, generation: int, attempt: int = NONE) -> str:
    """A shard's metadata."""
    return f"{FOLDER}metadata/{shard_name(number)}.{generation}{_suffix(attempt)}.parquet"


def index_folder(revision: int, attempt: int = NONE) -> str:
    """Where a revision's index lies."""
    return f"{FOLDER}index/{revision:08d}{_suffix(attempt)}/"
