"""Starting Ray: what a busy machine makes of it."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline import ray_session
from pipeline.ray_session import START_TRIES, LocalRayConfig, session_parent, sweep_folders


class SlowRay:
    """Stands for `ray.init` on a machine that is too busy for the first tries: each leaves a process behind."""

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self.left: list[subprocess.Popen[bytes]] = []
        self.tries = 0

    def __call__(self, local: LocalRayConfig, folder: str) -> None:
        self.tries += 1
        if self.tries <= self._failures:
            self.left.append(subprocess.Popen(["sleep", "3600"]))
            raise Exception("The current node timed out during startup.")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_worker_niceness", "RAY_BACKEND_LOG_LEVEL"):
        monkeypatch.setenv(name, "0")


def test_ray_that_does_not_start_is_tried_again_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowRay(START_TRIES - 1)
    monkeypatch.setattr(ray_session, "_init", slow)
    ray_session._start_here(LocalRayConfig(), "/nowhere")
    assert slow.tries == START_TRIES
    assert [process.wait(10) for process in slow.left] == [-9] * (START_TRIES - 1)


def test_the_last_try_says_what_ray_said(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowRay(START_TRIES)
    monkeypatch.setattr(ray_session, "_init", slow)
    with pytest.raises(Exception, match="timed out during startup"):
        ray_session._start_here(LocalRayConfig(), "/nowhere")
    for process in slow.left:
        process.kill()
        process.wait()


@pytest.mark.parametrize("wrong", [{"num_cpus": 0}, {"num_gpus": -1}, {"object_store_bytes": 2**20}])
def test_numbers_that_ray_would_not_take_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LocalRayConfig(**wrong)


def test_only_old_folders_of_processes_that_are_gone_are_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    owners = {"dead-old": gone.pid, "dead-new": gone.pid, "alive-old": os.getpid()}
    for name, pid in owners.items():
        folder = tmp_path / f"reelscribe-ray-{name}"
        (folder / "session").mkdir(parents=True)
        (folder / "owner").write_text(str(pid))
        if name.endswith("old"):
            os.utime(folder / "owner", (0, 0))
    for name, times in (("nobody-new", None), ("nobody-old", (0, 0))):
        (tmp_path / f"reelscribe-ray-{name}").mkdir()
        os.utime(tmp_path / f"reelscribe-ray-{name}", times)
    (tmp_path / "something-else").mkdir()
    swept = {path.name for path in sweep_folders(tmp_path)}
    assert swept == {"reelscribe-ray-dead-old", "reelscribe-ray-nobody-old"}
    assert len(list(tmp_path.iterdir())) == 4


def test_a_temporary_folder_whose_path_is_too_long_for_a_socket_is_not_rays() -> None:
    short, long = "/scratch/job-123456", "/scratch/job-1234567"
    assert session_parent(short) == short
    assert session_parent(long) == "/tmp"
    longest = f"{short}/reelscribe-ray-12345678/session_2026-11-27_11-49-35_123456_4194304/sockets/plasma_store"
    assert len(longest) == 107, "Linux takes no more"
