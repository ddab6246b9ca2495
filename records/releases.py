"""What a release holds: the schemas of its Parquet files, the bytes of its `.npy` headers and its manifest.

releases/<name>/items/part-*.parquet    one row an item, in the order of the catalog
releases/<name>/vectors/<view>.npy      float16 or float32 (N, D); row i is line i of item_ids.parquet
releases/<name>/item_ids.parquet        identity, and which views there are
releases/<name>/sample.parquet          the rows that gates and report looked at, chosen by a hash of their ids
releases/<name>/report.html             for a person
releases/<name>/manifest.json           written last: without it there is no release
releases/LATEST                         the name of the newest
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from records.errors import UserError
from records.schemas import VectorDtype

FORMAT: Final = 1
"""Of the layout; raised when a reader of the old one would be misled."""

VIEWS: Final = ("video", "audio", "metadata", "all")

LATEST: Final = "LATEST"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

TAG_TYPE = pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float64())])
ERROR_TYPE = pa.struct(
    [
        pa.field("stage", pa.string()),  # whose line has no result
        pa.field("cause", pa.string()),  # where it happened
        pa.field("kind", pa.string()),
        pa.field("message", pa.string()),
        pa.field("attempts", pa.int64()),
    ]
)


def items_schema(vector_dtype: VectorDtype) -> pa.Schema:
    """The schema of `items/part-*.parquet`. A text is null where its stage failed and empty where there is none."""
    fields: list[pa.Field[Any]] = [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("duration_seconds", pa.float64()),
        pa.field("title", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("transcript", pa.string()),
        pa.field("language", pa.string()),
        pa.field("audio_description", pa.string()),
        pa.field("audio_tags", pa.list_(TAG_TYPE)),
    ]
    for view in VIEWS:
        fields += [
            pa.field(f"document_{view}", pa.string()),
            pa.field(f"vector_{view}", pa.list_(getattr(pa, vector_dtype)())),
            pa.field(f"missing_{view}", pa.string(), nullable=False),  # why there is no vector; empty where there is
        ]
    return pa.schema([*fields, pa.field("errors", pa.list_(ERROR_TYPE), nullable=False)])


_IDS: "list[pa.Field[Any]]" = [
    pa.field("video_id", pa.string(), nullable=False),
    pa.field("version", pa.int64(), nullable=False),
    *(pa.field(f"has_{view}", pa.bool_(), nullable=False) for view in VIEWS),
]
IDS_SCHEMA = pa.schema(_IDS)


def ids_table(items: pa.Table) -> pa.Table:
    """The lines of `item_ids.parquet` for rows of an items file; reads the columns of `IDS_COLUMNS`."""
    equal: Any = pyarrow.compute.equal  # its stub knows no text
    has = [equal(items[f"missing_{view}"], "") for view in VIEWS]
    return pa.table([items["video_id"], items["version"], *has], schema=IDS_SCHEMA)


IDS_COLUMNS = ("video_id", "version", *(f"missing_{view}" for view in VIEWS))


def npy_header(rows: int, dimension: int, dtype: VectorDtype) -> bytes:
    """The first bytes of a `.npy` file (format 1.0 of numpy): after them come rows * dimension numbers, row by row."""
    buffer = io.BytesIO()
    write_header: Any = np.lib.format.write_array_header_1_0
    descr = np.dtype(dtype).newbyteorder("<").str
    write_header(buffer, {"descr": descr, "fortran_order": False, "shape": (rows, dimension)})
    return buffer.getvalue()


def is_release_name(name: str) -> bool:
    """Whether a release may be called so."""
    return _NAME.fullmatch(name) is not None and name.upper() != LATEST


def checked_name(name: str) -> str:
    """A release's name, once it is known to be one.

    Raises:
        UserError: It is empty, too long, holds other characters than letters, digits, `.`, `_`, `-`, or is `LATEST`.
    """
    if not is_release_name(name):
        raise UserError(f"--release {name!r}: letters, digits, '.', '_' and '-', at most 100, and not {LATEST}")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFile:
    """One object of a release."""

    path: str
    """Below the release's folder."""
    size_bytes: int
    rows: int
    sha256: str = ""
    """Of items files; empty where the object was written by several processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a release says of itself. Holds nothing of the run that wrote it: the same content gives the same bytes."""

    release: str
    content: str
    """Digest of what it was made of: equal digests, equal items, texts and vectors."""
    catalog_revision: int
    source: str
    counts: Mapping[str, int]
    """`items`, `items_with_errors`, `shards`, `shards_left_out`, `parts`, and one for each view's vectors."""
    dimension: int
    """D of the vectors."""
    vector_dtype: VectorDtype
    fingerprints: Mapping[str, str]
    """Stage to fingerprint, for every stage of the config."""
    models: Mapping[str, Mapping[str, Any]]
    """Stage to what its files say of their making: model, commit, settings, and the versions they were made with."""
    prompts: Mapping[str, str]
    """Stage to prompt, where it has one."""
    previous: str
    """The release that gates compared with; empty for the first."""
    gates: Sequence[Mapping[str, Any]]
    statistics: Mapping[str, Any]
    """What the next release is compared with."""
    files: Sequence[ReleaseFile]
    versions: Mapping[str, str]
    """Libraries that wrote the release."""
    format: int = FORMAT

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """What `encode` wrote.

        Raises:
            UserError: It is of a newer format, or no manifest.
        """
        try:
            values = json.loads(data)
            if values["format"] > FORMAT:
                raise UserError(f"the release has format {values['format']}: this version reads up to {FORMAT}")
            return cls(**{**values, "files": [ReleaseFile(**file) for file in values["files"]]})
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"the manifest is damaged, bring it back or publish another release: {error}") from None
