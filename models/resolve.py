"""Which weights a name means: resolved once, at plan time, so that fingerprints name them and workers load them.

A name is one of three:
    tiny:<name>     a tiny random-weight model, built here on first use
    a folder        weights on a path that every worker sees; its contents' digest stands for a commit
    a hub id        `owner/name` on the Hugging Face hub; the commit that the hub (or, offline, its cache here) names
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from models.digests import file_digest
from models.tiny import ensure_tiny
from records.errors import UserError

logger = logging.getLogger(__name__)

TINY_PREFIX = "tiny:"
HUB_TIMEOUT_SECONDS = 10.0
_PATH_STARTS = ("/", "./", "../", "~")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """One model, pinned."""

    name: str
    """As the config names it."""
    path: str
    """What a loader is given as the model: an absolute folder, or the hub id."""
    commit: str
    """40 hexadecimal characters: the hub's commit, or the digest of a folder's contents. It enters the fingerprint."""
    revision: str | None
    """What a loader is given as the revision: the commit for a hub id, None for a folder."""


def resolve_model(
    name: str, revision: str | None = None, *, api: HfApi | None = None, cache_dir: Path | None = None
) -> ResolvedModel:
    """Pins a model.

    Args:
        name: `tiny:<name>`, a folder or a hub id. A folder of that name wins over the hub, as in transformers.
        revision: A branch, tag or commit on the hub; None for its default branch.
        api: The hub's client, for another endpoint or token than the environment's.
        cache_dir: The hub's cache on this machine, where it is not the usual one.

    Raises:
        UserError: The name means nothing: no such tiny model, folder, hub id or revision; or the hub is out of reach
            and its cache here does not hold the model.
    """
    if name.startswith(TINY_PREFIX):
        return _resolve_folder(name, ensure_tiny(name.removeprefix(TINY_PREFIX)), revision)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _resolve_folder(name, folder.resolve(), revision)
    if name.startswith(_PATH_STARTS):
        raise UserError(f"model {name}: no such folder")
    commit = _hub_commit(name, revision, api or HfApi(), cache_dir)
    return ResolvedModel(name=name, path=name, commit=commit, revision=commit)


def folder_digest(folder: Path) -> str:
    """Names a folder's contents: 40 hexadecimal characters over each file's relative name and bytes.

    Times, permissions and the place of the folder do not count, nor does what starts with a dot (`.git`, `.cache`).
    Files are read in parallel, and again only when their size or time has changed: `models.digests` remembers them.

    Raises:
        UserError: There is no file, or one cannot be read.
    """
    names = sorted(_file_names(folder))
    if not names:
        raise UserError(f"model {folder}: the folder is empty")
    try:
        with ThreadPoolExecutor() as pool:
            digests = pool.map(lambda name: file_digest(folder / name), names)
            lines = [f"{len(name.encode())} {name} {digest}\n" for name, digest in zip(names, digests, strict=True)]
    except OSError as error:
        raise UserError(f"model {folder}: cannot read {error.filename}: {error.strerror}") from error
    return hashlib.blake2b("".join(lines).encode(), digest_size=20).hexdigest()


def _resolve_folder(name: str, folder: Path, revision: str | None) -> ResolvedModel:
    if revision is not None:
        raise UserError(f"model {name}: a folder has no revisions, but revision {revision!r} is asked for")
    return ResolvedModel(name=name, path=str(folder), commit=folder_digest(folder), revision=None)


def _file_names(folder: Path) -> Iterator[str]:
    """Relative POSIX names; links to files are followed (the hub's cache is made of them), links to folders are not."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield (Path(parent) / name).relative_to(folder).as_posix()


def _hub_commit(name: str, revision: str | None, api: HfApi, cache_dir: Path | None) -> str:
    try:
        commit = api.model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS).sha
    except HFValidationError as error:
        raise UserError(f"model {name!r} is no tiny model, no folder here and no hub id (owner/name)") from error
    except RevisionNotFoundError as error:
        raise UserError(f"model {name}: the hub knows no revision {revision!r} of it") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"model {name}: not on the hub, or your token may not see it") from error
    except (OSError, httpx2.HTTPError) as error:  # Offline mode, no route, a time-out, or the hub answers 429 or 5xx.
        return _cached_commit(name, revision, cache_dir, error)
    if commit is None:
        raise UserError(f"model {name}: the hub names no commit for revision {revision or 'main'!r}")
    return commit


def _cached_commit(name: str, revision: str | None, cache_dir: Path | None, error: Exception) -> str:
    """The commit whose config the hub's cache on this machine holds under `revision`."""
    cached = try_to_load_from_cache(name, "config.json", revision=revision, cache_dir=cache_dir)
    if not isinstance(cached, str):
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"model {name}: the model hub is out of reach and its cache here has no revision {revision or 'main'!r} "
            f"of it ({reason}); name a folder, or use the recipe tiny"
        ) from error
    commit = Path(cached).parent.name
    logger.warning("model %s: the hub is out of reach; taking commit %s from its cache here", name, commit)
    return commit
