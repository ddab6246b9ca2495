"""Digests of files: of their bytes, and large ones read once for all commands of a machine."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models import digests
from models.digests import SMALL_BYTES, file_digest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(digests, "REMEMBERED", tmp_path / "digests")
    digests._digest.cache_clear()
    return tmp_path / "digests"


def file_of(path: Path, size_bytes: int) -> Path:
    path.write_bytes(os.urandom(1024).ljust(size_bytes, b"\0"))
    return path


def true_digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=20).hexdigest()


def in_another_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From here on as a new command: nothing in memory; gives what is read."""
    digests._digest.cache_clear()
    read: list[str] = []
    really = digests._read

    def reads(path: str) -> str:
        read.append(path)
        return really(path)

    monkeypatch.setattr(digests, "_read", reads)
    return read


def test_a_large_file_is_read_once_for_all_commands(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = file_of(tmp_path / "large", SMALL_BYTES), file_of(tmp_path / "small", SMALL_BYTES - 1)
    before = file_digest(large), file_digest(small)
    assert before == (true_digest(large), true_digest(small))
    assert len(list(home.iterdir())) == 1
    read = in_another_process(monkeypatch)
    assert (file_digest(large), file_digest(small)) == before
    assert read == [str(small)]


def test_other_bytes_are_read_even_where_size_and_time_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = file_of(tmp_path / "large", SMALL_BYTES)
    stat, before = large.stat(), file_digest(large)
    file_of(large, SMALL_BYTES)
    os.utime(large, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_digest(large) == true_digest(large) != before
    in_another_process(monkeypatch)
    assert file_digest(large) == true_digest(large)


@pytest.mark.parametrize("damage", ["cut", "folder", "no room", "no home"])
def test_a_memory_that_is_damaged_or_takes_nothing_costs_a_read(
    damage: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = file_of(tmp_path / "large", SMALL_BYTES)
    if damage == "no room":
        home.write_text("a file where a folder should be")
    if damage == "no home":
        monkeypatch.setattr(digests, "REMEMBERED", Path("~nobody-of-this-name/digests"))
    digest = file_digest(large)
    if damage in ("cut", "folder"):
        (memory,) = home.iterdir()
        memory.write_bytes(b"\xff\0")
        if damage == "folder":
            memory.unlink()
            memory.mkdir()
    read = in_another_process(monkeypatch)
    assert file_digest(large) == digest == true_digest(large)
    assert read == [str(large)]


def test_it_lies_in_the_users_cache(tmp_path: Path) -> None:
    large = file_of(tmp_path / "large", SMALL_BYTES)
    code = f"from pathlib import Path; from models.digests import file_digest; print(file_digest(Path({str(large)!r})))"
    environment = os.environ | {"HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == true_digest(large)
    assert len(list((tmp_path / "home/.cache/reelscribe/digests").iterdir())) == 1
