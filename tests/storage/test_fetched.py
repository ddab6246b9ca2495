"""Bytes in files without a name: whole, shared by descriptor, and gone with it."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from records.errors import BadItemError, FailureKind
from storage.fetched import FetchedMedia, map_file


@pytest.fixture(params=["memory", "disk"])
def spill_folder(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    return None if request.param == "memory" else str(tmp_path)


def test_parts_written_in_any_order_are_read_as_one(spill_folder: str | None) -> None:
    data = os.urandom(300_001)
    with FetchedMedia.empty(len(data), spill_folder) as media:
        for start in (200_000, 0, 100_000):
            media.write(data[start : start + 100_000], start)
        media.write(data[300_000:], 300_000)
        view = media.view()
        assert media.read_bytes() == data
    assert view == data, "a view outlives the descriptor"
    assert view.readonly


def test_nothing_is_written_past_the_end(spill_folder: str | None) -> None:
    with FetchedMedia.empty(10, spill_folder) as media, pytest.raises(ValueError, match="more than the 10"):
        media.write(b"x" * 6, 5)


def test_what_nobody_said_the_size_of_grows_as_it_comes(spill_folder: str | None) -> None:
    with FetchedMedia.empty(None, spill_folder) as media:
        assert media.read_bytes() == b""
        media.write(b"abc", 0)
        media.write(b"defg", 3)
        assert (media.size_bytes, media.read_bytes()) == (7, b"abcdefg")


def test_plain_bytes_and_no_bytes() -> None:
    assert FetchedMedia.of_bytes(b"abc").read_bytes() == b"abc"
    assert FetchedMedia.of_bytes(b"").read_bytes() == b""


def test_a_part_of_a_file_is_mapped_from_where_it_begins(tmp_path: Path) -> None:
    data = os.urandom(20_000)
    (tmp_path / "tar").write_bytes(data)
    for offset, size in ((0, 20_000), (1, 100), (4096, 4096), (9_999, 10_001), (5, 0)):
        descriptor = os.open(tmp_path / "tar", os.O_RDONLY)
        with FetchedMedia(descriptor, size, offset=offset) as media:
            assert media.read_bytes() == data[offset : offset + size]
            assert map_file(media.descriptor, offset, size) == data[offset : offset + size]


def test_a_spilled_file_has_no_name_and_goes_with_its_descriptor(tmp_path: Path) -> None:
    before = psutil.Process().num_fds()
    media = FetchedMedia.empty(1 << 20, str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(media.descriptor).st_blocks * 512 >= 1 << 20, "its room is taken at once"
    media.close()
    media.close()
    assert psutil.Process().num_fds() == before
    with pytest.raises(ValueError, match="closed"):
        media.view()
    FetchedMedia.empty(10)  # nobody closes this one
    assert psutil.Process().num_fds() == before


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow past 100 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_room_that_is_not_there_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    before = psutil.Process().num_fds()
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        FetchedMedia.empty(1 << 20, str(tmp_path))
    assert psutil.Process().num_fds() == before
    assert FetchedMedia.empty(50_000, str(tmp_path)).size_bytes == 50_000


def test_verifying_asks_only_where_the_file_is_anothers(tmp_path: Path) -> None:
    FetchedMedia.of_bytes(b"x").verify()
    (tmp_path / "a").write_bytes(b"x")

    def changed() -> None:
        raise BadItemError(FailureKind.CHANGED, "written to")

    with (
        FetchedMedia(os.open(tmp_path / "a", os.O_RDONLY), 1, verify=changed) as media,
        pytest.raises(BadItemError, match="written to"),
    ):
        media.verify()
