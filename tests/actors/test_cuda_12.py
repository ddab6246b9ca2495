"""A library that lies where no loader looks is found by its name once it was loaded from there."""

import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest

from actors.cuda_12 import CUBLAS, nvidia_folders, preload

STAND_IN = "libstandin.so.12"
IN_ANOTHER_PROCESS = """
import ctypes, sys
from pathlib import Path
from actors.cuda_12 import preload

def found(name):
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True

names = sys.argv[2].split(",")
before = [found(name) for name in names]
missing = preload(names, [Path(folder) for folder in sys.argv[1].split(":")])
print(before, missing, [found(name) for name in names])
"""


def run(folders: list[Path], *names: str) -> str:
    """What is found before, what preloading misses, and what is found after; no loaded library leaves a process."""
    arguments = [":".join(map(str, folders)), ",".join(names)]
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def stand_in(folder: Path) -> None:
    """A library that calls itself `STAND_IN`: CTranslate2's own OpenMP, renamed inside."""
    (real,) = [path for path in files("ctranslate2") or () if path.name.startswith("libgomp-")]
    name = real.name.encode()
    content = Path(real.locate()).read_bytes()
    assert content.count(name) >= 1
    folder.mkdir()
    (folder / STAND_IN).write_bytes(content.replace(name, STAND_IN.encode().ljust(len(name), b"\0")))


def test_a_library_is_found_by_name_once_it_was_loaded_by_path(tmp_path: Path) -> None:
    stand_in(tmp_path / "lib")
    assert run([tmp_path / "none", tmp_path / "lib"], STAND_IN) == "[False] [] [True]"


def test_what_the_loader_finds_itself_needs_no_folder(tmp_path: Path) -> None:
    assert run([tmp_path], "libc.so.6") == "[True] [] [True]"


def test_what_is_nowhere_or_no_library_is_named_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "libbroken.so.12").write_bytes(b"no library")
    assert preload(["libnowhere.so.12", "libbroken.so.12"], [tmp_path]) == ["libnowhere.so.12", "libbroken.so.12"]


def test_folders_are_those_of_the_installed_packages() -> None:
    folders = nvidia_folders()
    assert all(folder.is_dir() for folder in folders)
    assert any((folder / "libcudart.so.13").is_file() for folder in folders)  # torch's


@pytest.mark.skipif(
    not any((folder / CUBLAS[-1]).is_file() for folder in nvidia_folders()), reason="the extra `gpu` is not installed"
)
def test_the_real_libraries_load_without_a_gpu() -> None:
    assert run(nvidia_folders(), *CUBLAS).endswith("[] [True, True, True]")
