"""A release is read by what it says of itself; what does not fit is an error that names the file."""

import io
import json
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIEnvironment

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from records.errors import UserError
from storage.release_reader import ReleaseReader, read_npy, read_vectors
from storage.releases import Releases
from storage.stores import Store
from tests.releases import write_release
from tests.s3 import S3Server

IDS = ["a", "b", "c"]
VIDEO = np.arange(6, dtype=np.float16).reshape(3, 2)
AUDIO = np.ones((3, 2), dtype=np.float16)


def release(folder: Path) -> Path:
    has = {"video": [True, True, False], "audio": [False, False, False]}
    return write_release(
        folder, "may", IDS, {"video": VIDEO, "audio": AUDIO}, has=has, durations={"a": 12.5, "b": None, "c": 31.0}
    )


def test_a_release_is_found_by_its_folder_and_by_the_pointer(tmp_path: Path) -> None:
    folder = release(tmp_path)
    for uri in (str(folder), str(tmp_path), f"file://{tmp_path}"):
        reader = ReleaseReader.open(uri)
        assert (reader.name, reader.item_ids) == ("may", IDS)
        assert reader.uri.endswith("/releases/may/")
        assert reader.views() == ["video"]
        vectors = reader.vectors("video")
        np.testing.assert_array_equal(vectors.values, VIDEO)
        assert vectors.present.tolist() == [True, True, False]
        assert reader.durations_seconds() == {"a": 12.5, "c": 31.0}


def npy(values: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("manifest.json", b"{", "manifest.json is not JSON"),
        ("manifest.json", b"[]", "holds no manifest"),
        ("item_ids.parquet", b"no", "item_ids.parquet cannot be read"),
        ("vectors/video.npy", b"no", "video.npy is no .npy file"),
        ("vectors/video.npy", npy(VIDEO)[:-1], "video.npy is no .npy file"),
        ("vectors/video.npy", npy(np.array([None, None, None])), "video.npy is no .npy file"),
        ("vectors/video.npy", npy(np.zeros((3, 2), dtype=np.int64)), "vectors must be floats"),
        ("vectors/video.npy", npy(VIDEO[:2]), r"holds \(2, 2\), for 3 lines"),
        ("vectors/video.npy", npy(np.zeros((3, 4), dtype=np.float16)), "has 4 dimensions, where the manifest says 2"),
    ],
)
def test_a_broken_release_names_its_file(tmp_path: Path, path: str, content: bytes, message: str) -> None:
    folder = release(tmp_path)
    (folder / path).write_bytes(content)
    with pytest.raises(UserError, match=message):
        ReleaseReader.open(str(folder)).vectors("video")


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    file = release(tmp_path) / "item_ids.parquet"
    whole = bytearray(file.read_bytes())
    whole[4:40] = (255 - byte for byte in whole[4:40])  # behind the magic number: the first page
    file.write_bytes(whole)
    with pytest.raises(UserError, match=r"item_ids\.parquet cannot be read: .*deserialize"):
        ReleaseReader.open(str(tmp_path))


@pytest.mark.parametrize("path", ["manifest.json", "item_ids.parquet", "vectors/video.npy"])
def test_a_missing_file_is_named(tmp_path: Path, path: str) -> None:
    folder = release(tmp_path)
    (folder / path).unlink()
    with pytest.raises(UserError, match=path):
        ReleaseReader.open(str(tmp_path)).vectors("video")


def test_no_release_and_no_view_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no release"):
        ReleaseReader.open(str(tmp_path))
    release(tmp_path)
    with pytest.raises(UserError, match="no view 'sound'; it has video, audio"):
        ReleaseReader.open(str(tmp_path)).vectors("sound")


def test_vectors_of_a_user_come_with_ids_of_either_kind(tmp_path: Path) -> None:
    np.save(tmp_path / "clap.npy", VIDEO)
    (tmp_path / "ids.txt").write_text("c\nb\n\na\n")
    pq.write_table(pa.table({"item": pa.array([3, 2, 1])}), tmp_path / "ids.parquet")
    uri = str(tmp_path / "clap.npy")
    assert read_vectors(uri, str(tmp_path / "ids.txt"), None).item_ids == ["c", "b", "a"]
    assert read_vectors(uri, str(tmp_path / "ids.parquet"), IDS).item_ids == ["3", "2", "1"]
    assert read_vectors(uri, None, IDS).item_ids == IDS


def test_what_is_wrong_with_a_users_vectors_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "clap.npy", VIDEO)
    uri = str(tmp_path / "clap.npy")
    pq.write_table(pa.table({"who": ["a"]}), tmp_path / "who.parquet")
    pq.write_table(pa.table({"id": ["a", None, "c"]}), tmp_path / "null.parquet")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for arguments, message in [
        ((uri, None, None), "whose vectors are these"),
        ((uri, None, ["a"]), r"holds \(3, 2\), for 1 ids"),
        ((uri, str(tmp_path / "none.txt"), None), "no such file of ids"),
        ((uri, str(tmp_path / "binary.txt"), None), "one id a line"),
        ((uri, str(tmp_path / "who.parquet"), None), "no column video_id or item or id"),
        ((uri, str(tmp_path / "null.parquet"), None), "line 2 has no id"),
        ((str(tmp_path / "none.npy"), None, IDS), "no such file of vectors"),
    ]:
        with pytest.raises(UserError, match=message):
            read_vectors(*arguments)


def test_a_pointer_to_a_release_that_is_not_finished_is_an_error(tmp_path: Path) -> None:
    Store.open(str(tmp_path)).create("releases/LATEST", b"june\n")
    with pytest.raises(UserError, match=r"june/manifest.json is missing, and releases/LATEST names that release"):
        ReleaseReader.open(str(tmp_path))
    assert json.loads((release(tmp_path / "other") / "manifest.json").read_bytes())["release"] == "may"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"../../june\n", b"june\nmay\n"])
def test_a_pointer_that_names_nothing_is_damaged(tmp_path: Path, content: bytes) -> None:
    store = Store.open(str(tmp_path))
    store.create("releases/LATEST", content)
    for read in (lambda: ReleaseReader.open(str(tmp_path)), Releases(store).latest):
        with pytest.raises(UserError, match=r"releases/LATEST is damaged: write the name of a release into it"):
            read()


@pytest.mark.filterwarnings("ignore:Reading")
def test_a_damaged_header_of_vectors_is_named(tmp_path: Path) -> None:
    good, store = npy(VIDEO), Store.open(str(tmp_path))
    headers = ["{'descr':'<f2','fortran_order':False,'shape':(999999999999999,2)}", "{'descr':(9", "(" * 5000]
    wrong = [b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n" for text in headers]
    wrong += [good[:place] + bytes([good[place] ^ mask]) + good[place + 1 :] for place in range(128) for mask in (1, 8)]
    said = []
    for number, content in enumerate(wrong):
        store.create(f"{number}.npy", content)
        try:
            read_npy(store, f"{number}.npy")
        except UserError as error:
            said.append(f"{number}.npy" in str(error))
    assert len(said) > 100
    assert all(said)


def test_a_store_that_refuses_is_not_taken_for_a_broken_release(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    folder, store = release(tmp_path), Store.open(s3_bucket)
    for file in folder.rglob("*"):
        if file.is_file():
            store.create(f"releases/may/{file.relative_to(folder)}", file.read_bytes())
    for name in ("manifest.json", "item_ids.parquet", "video.npy"):

        def gate(environ: WSGIEnvironment, name: str = name) -> tuple[int, str] | None:
            asked = environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].endswith(name)
            return (403, "AccessDenied") if asked else None

        with s3_server.refusing(gate), pytest.raises(UserError, match=rf"{name}: access refused") as caught:
            ReleaseReader.open(f"{s3_bucket}/releases/may").vectors("video")
        assert str(caught.value).startswith("s3://")
        assert str(caught.value).count("s3://") == 1
    with s3_server.refusing(lambda environ: (403, "AccessDenied")), pytest.raises(UserError) as caught:
        Releases(store).manifest("may")
    assert str(caught.value).count("s3://") == 1
