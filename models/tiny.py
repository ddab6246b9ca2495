"""Builds tiny random-weight models of the real architectures on first use and keeps them in a cache folder.

They let every engine run for real without a model hub: in the `tiny` recipe, in the tests, in continuous integration.
"""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from records.errors import UserError

logger = logging.getLogger(__name__)

TINY_MODELS = ("qwen2_5_vl", "qwen3_vl", "qwen2_audio", "whisper", "ast", "bert")
"""Every tiny model, named after its architecture."""

DEFAULT_CACHE_DIR = Path("~/.cache/reelscribe/tiny")

_SOURCES = {"whisper": "tiny_whisper", "ast": "tiny_ast", "bert": "tiny_bert"}
_LIBRARIES = ("torch", "transformers", "tokenizers")


def ensure_tiny(name: str, cache_dir: Path | None = None) -> Path:
    """The folder of a tiny model, built if this is its first use.

    Safe to call from many processes at once: one builds, the others wait, and a folder that is there is whole.

    Args:
        name: One of `TINY_MODELS`.
        cache_dir: Where the models are kept; `~/.cache/reelscribe/tiny` by default.

    Returns:
        An absolute path that transformers, vLLM, faster-whisper or sentence-transformers loads.

    Raises:
        UserError: There is no tiny model of that name, or the cache folder cannot be used.
    """
    if name not in TINY_MODELS:
        raise UserError(f"no tiny model is called {name!r}; there are {', '.join(TINY_MODELS)}")
    folder = (cache_dir or DEFAULT_CACHE_DIR).expanduser().resolve()
    target = folder / f"{name}-{builder_revision(name)}"
    if target.is_dir():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            if not target.is_dir():
                logger.info("building the tiny model %s in %s", name, target)
                _build(name, target)
    except OSError as error:
        raise UserError(f"{folder}: no tiny model can be kept there ({error.strerror})") from error
    return target


def builder_revision(name: str) -> str:
    """What a built model depends on, as 12 hexadecimal digits: its builder's source and the libraries beneath."""
    source = Path(__file__).with_name(f"{_SOURCES.get(name, 'tiny_qwen')}.py").read_bytes()
    versions = " ".join(f"{library} {version(library)}" for library in _LIBRARIES)
    return hashlib.sha256(source + versions.encode()).hexdigest()[:12]


def _build(name: str, target: Path) -> None:
    """Builds beside the target and renames, so that a killed build leaves nothing that looks whole."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        built = scratch / "model"
        built.mkdir()
        _builder(name)(built)
        built.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _builder(name: str) -> Callable[[Path], None]:
    # Imported here because each builder pulls in its engine's libraries, which take seconds.
    if name == "whisper":
        from models.tiny_whisper import build_whisper

        return build_whisper
    if name == "ast":
        from models.tiny_ast import build_ast

        return build_ast
    if name == "bert":
        from models.tiny_bert import build_bert

        return build_bert
    from models.tiny_qwen import build_qwen2_5_vl, build_qwen2_audio, build_qwen3_vl

    return {"qwen2_5_vl": build_qwen2_5_vl, "qwen3_vl": build_qwen3_vl, "qwen2_audio": build_qwen2_audio}[name]
