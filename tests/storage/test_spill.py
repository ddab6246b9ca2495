"""What a listing sets aside on the temporary disk, and what is said of a disk that takes it no more."""

import tempfile
from pathlib import Path

import pytest

from records.errors import UserError
from storage.spill import Spill, spill_folder
from storage.stores import Store
from tests.storage.catalog_model import contents_of, run


@pytest.mark.parametrize("buffered", [1, 3, 100])
def test_records_come_back_in_order(tmp_path: Path, buffered: int) -> None:
    spill = Spill[str](tmp_path / "deep" / "folder", buffered_records=buffered)
    for number in range(10):
        spill.add(number % 3, str(number))
    assert spill.partitions() == [0, 1, 2]
    assert [list(spill.read(part)) for part in range(4)] == [["0", "3", "6", "9"], ["1", "4", "7"], ["2", "5", "8"], []]
    assert (tmp_path / "deep").exists() == (buffered < 100)


def test_a_full_disk_is_one_line_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spill = Spill[str](tmp_path / "full", buffered_records=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "0").symlink_to("/dev/full")
    words = rf"^{tmp_path}, where a listing sets its items aside: No space left on device: .* TMPDIR$"
    with pytest.raises(UserError, match=words):
        spill.add(0, "x" * 100_000)


def test_what_was_set_aside_and_is_gone(tmp_path: Path) -> None:
    spill = Spill[str](tmp_path, buffered_records=1)
    spill.add(0, "a")
    (tmp_path / "0").unlink()
    with pytest.raises(UserError, match="No such file"):
        list(spill.read(0))


def test_no_temporary_disk_at_all_stops_a_listing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=rf"^{tmp_path}/gone, where a listing .* TMPDIR$"):
        run(store, [("a", (1, "e"))], None)
    assert contents_of(store) == {}


def test_an_error_of_who_uses_the_folder_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def work() -> None:
        with spill_folder() as folder:
            assert folder.parent == tmp_path
            raise FileNotFoundError("of a store")

    with pytest.raises(FileNotFoundError, match="of a store"):
        work()
    assert list(tmp_path.iterdir()) == []
