"""Listing a source: which files count, and ids that depend on the files alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.errors import UserError
from storage.source_items import MEDIA_EXTENSIONS, SourceItem, shown
from storage.sources import open_source
from storage.stores import Store
from tests.media import needs_media, shared_media
from tests.s3 import S3Server

stems = st.text(alphabet="ab.-/ ", min_size=1, max_size=6)
names = st.lists(st.tuples(stems, st.sampled_from(["mp4", "MP4", "webm", "mp4.mkv", "txt"])), min_size=1, max_size=12)


def expected_ids(paths: list[str]) -> dict[str, str]:
    """Path to id, by looking at every pair."""
    media = [path for path in paths if path.rpartition(".")[2].lower() in MEDIA_EXTENSIONS]
    stem = {path: path.rpartition(".")[0] for path in media}
    shared = {path for path in media for other in media if path != other and stem[path] == stem[other]}
    return {path: path if path in shared or stem[path] in media else stem[path] for path in media}


def list_source(uri: str) -> Iterator[SourceItem]:
    """Recognised at once, listed when asked for."""
    entries = open_source(uri).items()
    return (entry for entry in entries if isinstance(entry, SourceItem))


def ids_of(uri: str) -> dict[str, str]:
    return {item.uri.removeprefix(Store.open(uri).root): item.video_id for item in list_source(uri)}


@settings(max_examples=150, deadline=None)
@given(found=names)
def test_ids_equal_the_rule_and_are_unique(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("source")
    paths = []
    for stem, extension in found:
        path = f"{stem}.{extension}"
        parts = path.split("/")
        if any(part.startswith(".") or not part for part in parts):
            continue
        try:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch(exist_ok=False)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
        paths.append(path)
    wanted = expected_ids(paths)
    if not wanted:
        with pytest.raises(UserError, match=r"(no media files|nothing is in it)"):
            ids_of(str(folder))
        return
    assert ids_of(str(folder)) == wanted
    assert len(set(wanted.values())) == len(wanted)


def test_what_counts_as_media(store: Store) -> None:
    for path in ("a/clip.mp4", "a/CLIP2.MOV", "b.flac", "notes.txt", "mp4", ".hidden.mp4", "._a/x.mp4", "a/.mp4"):
        store.create(path, b"12345")
    items = {item.video_id: item for item in list_source(store.root)}
    assert set(items) == {"a/clip", "a/CLIP2", "b"}
    assert items["a/clip"].uri == store.uri("a/clip.mp4")
    assert items["a/clip"].size_bytes == 5


def test_local_etag_is_time_of_change_and_size(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"123")
    os.utime(file, ns=(1, 1_700_000_000_000_000_007))
    assert list(list_source(str(tmp_path))) == [
        SourceItem(video_id="a", uri=str(file), size_bytes=3, etag="1700000000000000007-3")
    ]


def test_s3_and_a_folder_give_the_same_ids(tmp_path: Path, s3_bucket: str) -> None:
    for path in ("x/a.mp4", "x/a.webm", "x/a.b.mp4", "x/a-b.mp4", "x/a/c.mp4", "x.mp4", "x.mp4.mkv"):
        for uri in (str(tmp_path), s3_bucket):
            Store.open(uri).create(path, b"x")
    assert ids_of(str(tmp_path)) == ids_of(s3_bucket)
    assert ids_of(s3_bucket)["x.mp4.mkv"] == "x.mp4.mkv"


def test_a_prefix_is_a_folder(s3_bucket: str) -> None:
    Store.open(s3_bucket).create("clips/a.mp4", b"x")
    Store.open(s3_bucket).create("clips2/b.mp4", b"x")
    assert [item.video_id for item in list_source(f"{s3_bucket}/clips")] == ["a"]


def test_a_long_listing_is_streamed(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.fill(s3_bucket, (f"{number:05d}.mp4" for number in range(2100)))
    listing = list_source(s3_bucket)
    start = len(s3_server.requests)
    assert next(listing).video_id == "00000"
    assert len(s3_server.requests) == start + 1
    assert sum(1 for _ in listing) == 2099


def test_user_mistakes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no media files"):
        list(list_source(str(tmp_path)))
    with pytest.raises(UserError, match="no such folder"):
        list_source(str(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()
    with pytest.raises(UserError, match="is one file"):
        list_source(str(tmp_path / "notes.txt"))


def test_a_name_is_shown_on_one_line_and_its_odd_bytes_as_they_are() -> None:
    odd = os.fsdecode(b"bad\xff.mov")
    assert [shown(one) for one in ("plain ä.mp4", odd, "two\nlines", "x" * 100)] == [
        "'plain ä.mp4'",
        r"'bad\xff.mov'",
        r"'two\nlines'",
        f"'{'x' * 30}…{'x' * 20}'",
    ]


@needs_media
def test_real_clips() -> None:
    folder = shared_media()
    assert folder is not None
    items = list(list_source(str(folder)))
    assert len({item.video_id for item in items}) == len(items) == 18
    assert all(item.size_bytes == Path(item.uri).stat().st_size for item in items)
