"""Turns on a shared GPU: one start at a time, also where the one before was killed; whole GPUs wait for nobody."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from pipeline.gpu_turn import gpu_turn
from tests.pipeline.ray_host import ROOT

HOLD = """
import sys
from pipeline.gpu_turn import gpu_turn
with gpu_turn(0.5, sys.argv[1]):
    print("mine", flush=True)
    sys.stdin.read()
"""


def locks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.lock"))


def free(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return True
    except Timeout:
        return False


def test_a_share_is_held_and_another_gpu_has_turns_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with gpu_turn(0.5, str(tmp_path)):
        (held,) = locks(tmp_path)
        assert not free(held)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        with gpu_turn(0.5, str(tmp_path)):
            assert len(locks(tmp_path)) == 2
    assert free(held)


@pytest.mark.parametrize("num_gpus", [0.0, 1.0, 2.0])
def test_who_shares_no_gpu_takes_no_turn(tmp_path: Path, num_gpus: float) -> None:
    with gpu_turn(num_gpus, str(tmp_path)):
        assert locks(tmp_path) == []


def test_a_killed_holder_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        (held,) = locks(tmp_path)
        assert not free(held)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with gpu_turn(0.5, str(tmp_path)):
            assert not free(held)
