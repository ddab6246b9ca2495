"""A source or output that cannot be used: one clear line, the exit code, and nothing half-written."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.catalog import main
from jobs.cli import run_command
from storage.catalog import Catalog
from storage.stores import Store
from tests.s3 import S3Server


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A source of a few files."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.mp4").write_bytes(b"x" * 100)
    return folder


@contextlib.contextmanager
def mounted(folder: Path, size_bytes: int) -> Iterator[None]:
    """A disk of its own of this size under the folder."""
    folder.mkdir(exist_ok=True)
    options = f"size={size_bytes}"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"this user may not mount: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def refusal(capsys: pytest.CaptureFixture[str], source: object, output: object, code: int = 2) -> str:
    """Lists the source, which must not work; the one line that the command ends with."""
    capsys.readouterr()
    assert run_command(main, ["--source", str(source), "--output", str(output)]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert sum(line.startswith("error: ") for line in said.err.splitlines()) == 1
    return last


def no_catalog(output: object) -> bool:
    store = Store.open(str(output))
    return Catalog.open(store) is None and all(entry.path.startswith("leases/") for entry in store.list())


def test_a_bucket_that_refuses(
    s3_server: S3Server,
    s3_bucket: str,
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with s3_server.refusing(lambda environ: (403, "AccessDenied")):
        line = refusal(capsys, clips, f"{s3_bucket}/out")
        assert "access refused (AccessDenied" in line
        assert "check credentials" in line
        line = refusal(capsys, f"{s3_bucket}/clips", tmp_path / "out")
        assert f"{s3_bucket}/clips" in line
        assert "access refused" in line
    assert no_catalog(tmp_path / "out")
    with s3_server.refusing(lambda environ: (403, "AccessDenied") if environ["REQUEST_METHOD"] == "PUT" else None):
        assert "access refused" in refusal(capsys, clips, f"{s3_bucket}/out")
    assert list(Store.open(s3_bucket).list()) == []


def test_a_bucket_that_is_not_there(
    s3_server: S3Server,
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "no such bucket" in refusal(capsys, clips, "s3://never-made/out")
    assert "no such bucket" in refusal(capsys, "s3://never-made/clips", tmp_path / "out")
    assert no_catalog(tmp_path / "out")


def test_a_disk_that_is_full(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    with mounted(output, 64 * 1024):
        filler = output / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        assert "the disk is full" in refusal(capsys, clips, output)
        assert not list((output / ".tmp").glob("*.part"))
        filler.unlink()
        assert no_catalog(output)
        assert run_command(main, ["--source", str(clips), "--output", str(output)]) == 0


def test_an_output_that_is_read_only(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    with mounted(output, 1 << 20):
        subprocess.run(["mount", "-o", "remount,ro", str(output)], check=True)
        assert "the file system is read-only" in refusal(capsys, clips, output)
        assert list(output.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_of_another_user(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    output.mkdir(mode=0o555)
    assert "access refused" in refusal(capsys, clips, output)
    assert list(output.iterdir()) == []


def test_a_file_in_the_place_of_a_folder(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"x")
    assert "is a file" in refusal(capsys, clips, tmp_path / "file")
    assert "is a file" in refusal(capsys, clips, tmp_path / "file" / "out")
    assert "no such folder" in refusal(capsys, tmp_path / "gone", tmp_path / "out")


def test_an_output_that_lost_its_catalog_gets_no_other(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "out" / "stages" / "caption" / "0123456789abcdef" / "00000000.0.parquet"
    table.parent.mkdir(parents=True)
    table.write_bytes(b"of the catalog that was here")
    line = refusal(capsys, clips, tmp_path / "out")
    assert "has stage tables and no catalog, and they belong to the one that was there" in line
    table.unlink()
    table.parent.rmdir()
    assert run_command(main, ["--source", str(clips), "--output", str(tmp_path / "out")]) == 0
