"""What a release's files say, held against numpy and against themselves."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.errors import UserError
from records.releases import IDS_SCHEMA, VIEWS, Manifest, ReleaseFile, checked_name, ids_table, items_schema, npy_header

MANIFEST = Manifest(
    release="r1",
    content="c",
    catalog_revision=1,
    source="/clips",
    counts={"items": 2},
    dimension=3,
    vector_dtype="float16",
    fingerprints={"embed": "e1"},
    models={"embed": {"model": "bge", "made_with": ["v1"]}},
    prompts={"caption": "What is ä?"},
    previous="",
    gates=[{"gate": "error_share", "value": 0.5}],
    statistics={"rows": 2},
    files=[ReleaseFile(path="items/part-00000.parquet", size_bytes=10, rows=2, sha256="ab")],
    versions={"python": "3"},
)


@given(
    rows=st.integers(0, 10**9),
    dimension=st.integers(0, 4096),
    dtype=st.sampled_from(["float16", "float32"]),
)
def test_a_header_is_numpys(rows: int, dimension: int, dtype: str) -> None:
    header = npy_header(rows, dimension, dtype)  # type: ignore[arg-type]
    buffer = io.BytesIO(header)
    version = np.lib.format.read_magic(buffer)  # type: ignore[no-untyped-call]
    shape, fortran, kind = np.lib.format.read_array_header_1_0(buffer)  # type: ignore[no-untyped-call]
    assert (version, shape, fortran, kind) == ((1, 0), (rows, dimension), False, np.dtype(dtype))
    assert buffer.tell() == len(header)
    assert len(header) % 64 == 0


def test_a_header_and_rows_are_what_numpy_saves() -> None:
    matrix = np.arange(12, dtype=np.float16).reshape(4, 3)
    saved = io.BytesIO()
    np.save(saved, matrix)
    assert npy_header(4, 3, "float16") + matrix.tobytes() == saved.getvalue()


def test_a_manifest_comes_back_and_equal_ones_are_equal_bytes() -> None:
    assert Manifest.decode(MANIFEST.encode()) == MANIFEST
    assert MANIFEST.encode() == replace(MANIFEST, counts=dict(MANIFEST.counts)).encode()
    with pytest.raises(UserError, match="has format 99"):
        Manifest.decode(replace(MANIFEST, format=99).encode())
    for broken in (b"", b"{}", b"[1]", b'{"format": 1}'):
        with pytest.raises(UserError, match="manifest is damaged"):
            Manifest.decode(broken)


@pytest.mark.parametrize("name", ["a", "2026-11-26", "v1.2_b"])
def test_good_names(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "LATEST", "latest", ".hidden", "a/b", "../x", "a b", "ä", "x" * 101, "-x", "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="--release"):
        checked_name(name)


def test_ids_say_which_views_there_are() -> None:
    row = {"video_id": "a", "version": 2, "uri": "u", "title": "", "errors": []}
    row |= {f"missing_{view}": "no_audio" if view == "audio" else "" for view in VIEWS}
    table = ids_table(pa.Table.from_pylist([row], schema=items_schema("float32")))
    assert table.schema == IDS_SCHEMA
    has = {f"has_{view}": view != "audio" for view in VIEWS}
    assert table.to_pylist() == [{"video_id": "a", "version": 2, **has}]
