"""Loads CUDA 12's cuBLAS for CTranslate2, where torch has brought CUDA 13 alone.

CTranslate2's wheel opens `libcublas.so.12` by that name at its first matrix product (4.8, source: strings of its
library), and cuBLAS opens `libnvrtc.so.12`. Their packages put both where no loader looks; a library that is loaded
already is found by name. Kept to themselves (RTLD_LOCAL), as torch's cuBLAS 13 may be in the same process.
"""

import ctypes
import logging
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

logger = logging.getLogger(__name__)

CUBLAS = ("libnvrtc.so.12", "libcublasLt.so.12", "libcublas.so.12")
"""In the order of their needs; of `nvidia-cuda-nvrtc-cu12` and `nvidia-cublas-cu12`."""


def preload(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Loads libraries for the rest of the process, so that whoever opens them by name finds them.

    Args:
        names: File names, each after those that it needs.
        folders: Where to look for what the loader does not find by itself.

    Returns:
        The names that are nowhere, or do not load.
    """
    return [name for name in names if not any(_loads(place) for place in (name, *_places(name, folders)))]


def nvidia_folders() -> list[Path]:
    """The `nvidia/<library>/lib` folders of the installed packages."""
    spec = find_spec("nvidia")
    roots = spec.submodule_search_locations if spec is not None else None
    return [folder for root in roots or () for folder in sorted(Path(root).glob("*/lib"))]


def _places(name: str, folders: Sequence[Path]) -> Iterator[str]:
    return (str(folder / name) for folder in folders if (folder / name).is_file())


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        logger.debug("%s", error)
        return False
    return True
