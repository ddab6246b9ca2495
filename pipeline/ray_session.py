"""Ray for one command: the cluster whose address is given, else one started in this process and stopped with it."""

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

from cluster.capacity import Capacity
from pipeline.graph import GraphConfig, configure_ray_data
from pipeline.ray_blocks import await_executions
from pipeline.ray_notices import notices_to_log
from records.errors import FatalError, ReelscribeError, UserError

logger = logging.getLogger(__name__)

START_TRIES = 3
"""Ray gives its own processes 30 s to start; on a busy machine they take longer."""

MIN_LOCAL_CPUS = 6

_FOLDER_PREFIX = "reelscribe-ray-"
_LONGEST_SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
MOST_SOCKET_BYTES = 107
"""Of a Unix socket's path, on Linux."""
_OWNER = "owner"
END_SECONDS = 10.0
"""How long the end of a session may wait for its processes."""
KEEP_SECONDS = 3 * 86_400.0
"""How long the logs of a run that failed or was killed are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRayConfig:
    """Ray started inside the command, where no cluster's address is given.

    Raises:
        ValueError: A number is too small for Ray.
    """

    num_cpus: int | None = None
    """CPU slots; None for as many as there are cores, but at least 6: slots only order work, they are no cores."""
    num_gpus: int | None = None
    """GPUs to use; None for all that this machine has."""
    object_store_bytes: int = 2 * 2**30
    """Shared memory for frames and sound on their way."""

    def __post_init__(self) -> None:
        if (self.num_cpus is not None and self.num_cpus < 1) or self.object_store_bytes < 80 * 2**20:
            raise ValueError("local_ray: num_cpus must be at least 1 and object_store_bytes at least 80 MiB")
        if self.num_gpus is not None and self.num_gpus < 0:
            raise ValueError("local_ray: num_gpus must not be negative")


def in_cluster() -> bool:
    """Whether this process belongs to a cluster: a submitted job, or an address in the environment."""
    return bool(os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


@contextlib.contextmanager
def ray_session(local: LocalRayConfig, graph: GraphConfig) -> Iterator[None]:
    """Connects to Ray, or uses the connection that there is, for as long as the context is open.

    Raises:
        UserError: No cluster answers at the address in the environment.
    """
    notices_to_log()
    with contextlib.ExitStack() as stack:
        own = not ray.is_initialized() and not in_cluster()
        if own:
            folder = stack.enter_context(_session_folder())
            stack.callback(_shut_down)
            _start_here(local, folder)
        elif not ray.is_initialized():
            stack.callback(_shut_down)
            _join_cluster()
        configure_ray_data(graph)
        yield
        if own:
            _await_workers()


def _shut_down() -> None:
    await_executions(END_SECONDS)
    ray.shutdown()


@contextlib.contextmanager
def _session_folder() -> Iterator[str]:
    """Ray's folder, with the logs of every worker; kept where the run fails."""
    parent = session_parent(tempfile.gettempdir())
    sweep_folders(Path(parent))
    folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=parent)
    (Path(folder) / _OWNER).write_text(str(os.getpid()))
    try:
        yield folder
    except Exception as error:
        if isinstance(error, ReelscribeError) and not isinstance(error, FatalError):
            _remove(folder)  # it says itself what is wrong, and it is no worker
        else:
            logger.error("the workers' logs are kept in %s/session_latest/logs", folder)
        raise
    except BaseException:
        _remove(folder)
        raise
    _remove(folder)


def session_parent(temporary: str) -> str:
    """Where Ray's folder goes: `/tmp` where the path of a socket below `temporary` would be longer than may be."""
    socket = Path(temporary, f"{_FOLDER_PREFIX}12345678", _LONGEST_SOCKET)
    return temporary if len(os.fsencode(socket)) <= MOST_SOCKET_BYTES else "/tmp"


def _remove(folder: str) -> None:
    """Removes a folder that processes which are just ending may still write to."""
    until = time.monotonic() + END_SECONDS
    while Path(folder).exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > until:
            return  # the next run sweeps it
        time.sleep(0.05)


def _await_workers() -> None:
    """Lets the workers of this machine close their engines, which leave files behind where they are killed."""
    until = time.monotonic() + END_SECONDS
    while time.monotonic() < until and any(_is_worker(child) for child in psutil.Process().children(recursive=True)):
        time.sleep(0.05)


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).startswith("ray::MapWorker")
    return False


def sweep_folders(parent: Path, keep_seconds: float = KEEP_SECONDS) -> list[Path]:
    """Removes what earlier runs left, once it is old and its process is gone; returns the folders."""
    old: list[Path] = []
    for folder in parent.glob(f"{_FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):  # another user's, or going just now
            owner = folder / _OWNER
            known = owner.exists()
            age_seconds = time.time() - (owner if known else folder).stat().st_mtime
            if age_seconds > keep_seconds and not (known and psutil.pid_exists(int(owner.read_text()))):
                shutil.rmtree(folder, ignore_errors=True)
                old.append(folder)
    return old


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Gives the command its handler back: Ray's ends its own processes first, and then this one with code 1."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _join_cluster() -> None:
    try:
        with _own_sigterm():
            ray.init(address="auto", log_to_driver=False)
    except ConnectionError as error:
        raise UserError(f"no Ray cluster at {os.environ.get('RAY_ADDRESS')}: {str(error).splitlines()[0]}") from None


def _start_here(local: LocalRayConfig, folder: str) -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else can reach a cluster that lives in this process
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Else Ray kills a worker's children before the worker may close its engine, and so leaves semaphores in /dev/shm.
    os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "false")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ side writes over the progress display
    logger.info("starting Ray on this machine")
    this_process = psutil.Process()
    before = set(this_process.children())
    for _ in range(START_TRIES - 1):
        try:
            return _init(local, folder)
        except Exception as error:  # noqa: BLE001 - Ray raises nothing narrower once its 30 s are over
            logger.warning("Ray did not start, trying again: %s", error)
            for child in set(this_process.children()) - before:
                child.kill()
    _init(local, folder)


def _init(local: LocalRayConfig, folder: str) -> None:
    with _stderr_to(Path(folder) / "start.log"), _own_sigterm():
        ray.init(
            address="local",
            num_cpus=local.num_cpus or max(os.cpu_count() or 1, MIN_LOCAL_CPUS),
            num_gpus=local.num_gpus,
            object_store_memory=local.object_store_bytes,
            include_dashboard=False,
            _temp_dir=folder,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Sends what is written to standard error, by C++ too, to a file: Ray announces there which log level it got."""
    sys.stderr.flush()
    before = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


def cluster_capacity() -> Capacity:
    """What the connected cluster has now."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return Capacity.of(resources)
