"""WebDataset shards: every member where another tar reader finds it, and a defined end for every hostile one."""

import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.errors import BadItemError, FailureKind, UserError
from records.items import CatalogItem, Metadata
from storage.fetch import FetchConfig, Fetcher
from storage.source_items import SourceItem
from storage.source_webdataset import key_and_extension
from storage.stores import Store
from tests.s3 import S3Server
from tests.storage.listings import listed
from tests.storage.tars import member, tar_of

WRITING: dict[str, Literal["w:gz", "w:bz2", "w:xz"]] = {"gz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def read(item: SourceItem) -> bytes:
    found = CatalogItem(
        video_id=item.video_id,
        version=1,
        uri=item.uri,
        size_bytes=item.size_bytes,
        etag=item.etag,
        byte_offset=item.byte_offset,
    )
    with Fetcher(FetchConfig())(found) as media:
        return media.read_bytes()


parts = st.text(alphabet="ab._-ä ", min_size=1, max_size=5).filter(lambda part: part not in (".", ".."))
names = st.builds(
    lambda folders, extension: "/".join(folders) + extension,
    st.lists(parts, min_size=1, max_size=3),
    st.sampled_from([".mp4", ".MP4", ".webm", ".wav", ".json", ".low.mp4", "", ".jpg"]),
)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar to compare with")
@settings(max_examples=60, deadline=None)
@given(members=st.dictionaries(names, st.binary(max_size=1500), max_size=8), format=st.sampled_from(FORMATS))
def test_members_are_where_gnu_tar_finds_them(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes], format: int
) -> None:
    folder = tmp_path_factory.mktemp("tar")
    tar = tar_of(folder / "a.tar", members | {"last.mp4": b"so that there is one"}, format)
    items, left_out = listed(str(tar))
    assert set(left_out) <= {"bad_metadata"}
    for item in items:
        with_extension = [name for name in (*members, "last.mp4") if name.lower().startswith(item.video_id.lower())]
        contents = {
            subprocess.run(["tar", "-xOf", tar, "--no-wildcards", "--", name], capture_output=True, check=True).stdout
            for name in with_extension
        }
        assert read(item) in contents


def test_long_names_of_both_kinds(tmp_path: Path) -> None:
    name = f"{'folder/' * 30}{'n' * 200}"
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        tar_of(tmp_path / "a.tar", {f"{name}.mp4": b"video", "b.mp4": b""}, format)
        items, _ = listed(str(tmp_path / "a.tar"))
        assert [(item.video_id, read(item)) for item in items] == [(name, b"video"), ("b", b"")]


def test_samples_with_their_metadata(store: Store, tmp_path: Path) -> None:
    values = {"title": "A title", "views": 3, "tags": ["a"], "nothing": None}
    for number in range(3):
        tar_of(
            tmp_path / "a.tar",
            {
                f"./c.d/{number}1.json": json.dumps(values).encode(),
                f"./c.d/{number}1.mp4": b"one",
                f"{number}2.mp4": b"two",
                f"{number}2.txt": b"Only a text\n",
                f"{number}2.cls": b"7",
                f"{number}2.jpg": b"a picture",
                f"{number}3.wav": b"sound of a video",
                f"{number}3.left.mp4": b"left",
                f"{number}3.RIGHT.mp4": b"right",
                f"{number}4.flac": b"sound alone",
                f"{number}5.json": b'{"caption": "no video"}',
                "README": b"no extension",
                f"._{number}6.mp4": b"left by an archiver",
            },
        )
        store.create(f"shards/{number}.tar", (tmp_path / "a.tar").read_bytes())
    store.create("shards/_temporary/0.tar", b"half")
    items, left_out = listed(store.uri("shards"))
    assert left_out == {}
    first = {item.video_id: item for item in items[:5]}
    assert list(first) == ["c.d/01", "02", "03.left.mp4", "03.right.mp4", "04"]
    assert first["c.d/01"].metadata == Metadata(title="A title", extra={"views": "3", "tags": '["a"]'})
    assert first["02"].metadata == Metadata(title="Only a text", extra={"cls": "7"})
    assert first["04"].metadata is None
    assert [read(item) for item in first.values()] == [b"one", b"two", b"left", b"right", b"sound alone"]
    assert [item.video_id for item in items[5:7]] == ["c.d/11", "12"], "in the order of the shards"
    assert len(items) == 15
    assert listed(store.uri("shards/1.tar"))[0] == items[5:10]


def test_hostile_members_are_left_out_and_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member(tar, "good1.mp4", b"1")
        member(tar, "../up.mp4", b"x")
        member(tar, "a/../../up.mp4", b"x")
        member(tar, "/etc/passwd.mp4", b"x")
        member(tar, "link.mp4", kind=tarfile.SYMTYPE, link="/etc/passwd")
        member(tar, "hard.mp4", kind=tarfile.LNKTYPE, link="good1.mp4")
        member(tar, "pipe.mp4", kind=tarfile.FIFOTYPE)
        member(tar, "device.mp4", kind=tarfile.CHRTYPE)
        member(tar, "folder.mp4", kind=tarfile.DIRTYPE)
        member(tar, "line\nbreak.mp4", b"x")
        member(tar, f"{'x' * 10_000}.mp4", b"x")
        member(tar, "bad.json", b"{not json")
        member(tar, "bad.mp4", b"kept")
        member(tar, "deep.json", b"[" * 100_000)
        member(tar, "deep.mp4", b"kept")
        member(tar, "large.json", b" " * (1024**2 + 1))
        member(tar, "large.mp4", b"kept")
        member(tar, "good2.mp4", b"2")
    items, left_out = listed(str(tmp_path / "a.tar"))
    assert [item.video_id for item in items] == ["good1", "bad", "deep", "large", "good2"]
    assert [read(item) for item in items] == [b"1", b"kept", b"kept", b"kept", b"2"]
    assert {reason: len(names) for reason, names in left_out.items()} == {
        "unsafe_name": 3,
        "link": 2,
        "not_a_file": 2,
        "bad_id": 1,
        "long_id": 1,
        "bad_metadata": 3,
    }
    assert left_out["unsafe_name"][0] == f"'../up.mp4' in {tmp_path / 'a.tar'}"


@settings(max_examples=500)
@given(name=st.text(alphabet="a./\n", max_size=12))
def test_names_are_split_as_webdataset_splits_them(name: str) -> None:
    found = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", name, re.DOTALL)
    assert key_and_extension(name) == (None if found is None else found.groups())


@pytest.mark.timeout(60)
def test_a_long_name_takes_no_longer_than_its_bytes() -> None:
    """A pattern that tries each of its slashes takes the better part of an hour."""
    deep = "a/" * 500_000
    assert (key_and_extension(f"{deep}b"), key_and_extension(f"{deep}.b")) == (None, (deep, "b"))


def sparse(data: bytes, format: str) -> bytes:
    """A tar with a sparse file, as GNU tar writes it."""
    return subprocess.run(
        ["tar", "--sparse", f"--format={format}", "-cf", "-", "hole.mp4", "last.mp4"],
        capture_output=True,
        check=True,
        cwd=data.decode(),
    ).stdout


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar to write sparse files")
@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_sparse_members_are_left_out(tmp_path: Path, format: str) -> None:
    with open(tmp_path / "hole.mp4", "wb") as file:
        file.truncate(10_000_000)
        file.seek(5_000_000)
        file.write(b"x")
    (tmp_path / "last.mp4").write_bytes(b"last")
    (tmp_path / "a.tar").write_bytes(sparse(str(tmp_path).encode(), format))
    items, left_out = listed(str(tmp_path / "a.tar"))
    assert [item.video_id for item in items] == ["last"]
    assert list(left_out) == ["sparse"]


def test_a_member_longer_than_the_tar_is_left_out_and_what_comes_before_is_kept(tmp_path: Path) -> None:
    whole = tar_of(tmp_path / "a.tar", {"a.mp4": b"1" * 700, "b.mp4": b"2" * 5000, "c.mp4": b"3"}).read_bytes()
    for length, kept, reason in ((1536 + 512, 1, "truncated"), (1536 + 100, 1, "broken_file"), (1536, 1, None)):
        (tmp_path / "a.tar").write_bytes(whole[:length])
        items, left_out = listed(str(tmp_path / "a.tar"))
        assert ([item.video_id for item in items], len(items)) == (["a"], kept), length
        assert list(left_out) == ([] if reason is None else [reason]), length


def test_damage_in_the_middle_is_no_quiet_end(tmp_path: Path) -> None:
    data = bytearray(tar_of(tmp_path / "a.tar", {"a.mp4": b"1" * 700, "b.mp4": b"2", "c.mp4": b"3"}).read_bytes())
    data[1536 + 10] ^= 0xFF
    (tmp_path / "a.tar").write_bytes(data)
    items, left_out = listed(str(tmp_path / "a.tar"))
    assert [item.video_id for item in items] == ["a"]
    assert left_out == {"broken_file": [f"{tmp_path / 'a.tar'}: no header at byte 1536"]}


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 5119), st.integers(1, 255)), max_size=12), cut=st.integers(0, 5120))
def test_any_damage_ends_in_items_or_in_what_was_left_out(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("tar")
    data = bytearray(
        tar_of(folder / "a.tar", {"ä" * 90 + ".mp4": b"1" * 700, "b.json": b"{}", "b.mp4": b"2"}).read_bytes()
    )
    for position, mask in flips:
        data[position] ^= mask
    (folder / "a.tar").write_bytes(data[:cut])
    try:
        items, _ = listed(str(folder / "a.tar"))
    except UserError:
        return
    assert all(item.byte_offset is not None and item.byte_offset + (item.size_bytes or 0) <= cut for item in items)


def pax_record(keyword: str, value: str) -> bytes:
    body = f" {keyword}={value}\n".encode()
    return str(len(body) + len(str(len(body) + 2))).encode() + body


@pytest.mark.parametrize("size", ["-512", "-100000", "9" * 30, "x"])
def test_a_pax_size_that_makes_no_sense(tmp_path: Path, size: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member(tar, "good.mp4", b"1")
        member(tar, "header", pax_record("size", size), kind=tarfile.XHDTYPE)
        member(tar, "bad.mp4", b"2")
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    items, left_out = listed(str(tmp_path / "a.tar"))
    assert [item.video_id for item in items] == ["good"]
    assert len(left_out) == 1


def test_headers_without_end_are_not_read_into_memory(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        member(tar, "good.mp4", b"1")
        member(tar, "header", b"0" * (3 * 1024**2), kind=tarfile.XHDTYPE)
        member(tar, "bad.mp4", b"2")
    items, left_out = listed(str(tmp_path / "a.tar"))
    assert [item.video_id for item in items] == ["good"]
    assert "headers of more than" in left_out["broken_file"][0]


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_compressed_tars_are_refused_by_name(tmp_path: Path, packing: str) -> None:
    for name in (f"a.tar.{packing}", "a.tar"):
        with tarfile.open(tmp_path / name, WRITING[packing]) as tar:
            member(tar, "a.mp4", b"1")
        with pytest.raises(UserError, match=rf"{name} is compressed.*unpack it"):
            listed(str(tmp_path))
        (tmp_path / name).unlink()


def test_a_broken_shard_among_others(tmp_path: Path) -> None:
    tar_of(tmp_path / "a.tar", {"a.mp4": b"1"})
    (tmp_path / "b.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "c.tar").write_bytes(b"")
    tar_of(tmp_path / "d.tar", {"d.mp4": b"1"})
    tar_of(tmp_path / "e.tar", {})
    items, left_out = listed(str(tmp_path))
    assert [item.video_id for item in items] == ["a", "d"]
    assert [name.partition(": ")[0][-5:] for name in left_out["broken_file"]] == ["b.tar", "c.tar"]
    with pytest.raises(UserError, match=r"no videos in .tar files in it \(broken_file"):
        listed(str(tmp_path / "b.tar"))


def test_a_tar_written_anew_makes_its_members_changed(tmp_path: Path) -> None:
    tar_of(tmp_path / "a.tar", {"a.mp4": b"12345"})
    ((item,), _) = listed(str(tmp_path / "a.tar"))
    assert read(item) == b"12345"
    tar_of(tmp_path / "a.tar", {"a.mp4": b"12345", "b.mp4": b"x" * 20_000})
    with pytest.raises(BadItemError) as caught:
        read(item)
    assert caught.value.kind is FailureKind.CHANGED


def test_large_members_are_jumped_over_and_small_ones_read_through(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    store = Store.open(s3_bucket)
    for name, size, members in (("large", 1_000_000, 12), ("small", 2_000, 600)):
        whole = {
            f"{number:04d}.{kind}": bytes(size if kind == "mp4" else 0)
            for number in range(members)
            for kind in ("mp4", "txt")
        }
        store.create(f"{name}.tar", tar_of(tmp_path / "a.tar", whole).read_bytes())
        start = len(s3_server.requests)
        items, _ = listed(f"{s3_bucket}/{name}.tar")
        assert len(items) == members
        requests = len(s3_server.requests) - start - 6  # twice opening the store and finding the object, its size
        assert requests <= (members + 2 if name == "large" else 12), name
