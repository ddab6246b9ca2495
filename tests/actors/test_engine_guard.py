"""An engine does not outlive its worker."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import cast

import psutil
import pytest

from actors.describe_audio import DescribeAudioStage
from actors.engine_guard import MARK, EngineGuard, marked_processes
from actors.vllm_engine import VllmEngine
from tests.pipeline.ray_host import ROOT

SLEEP = "import time; time.sleep(3600)"
ENGINE = (
    "import multiprocessing, time; lock = multiprocessing.get_context('spawn').Lock(); "
    "print(lock._semlock.name, flush=True); time.sleep(3600)"
)
"""Holds a semaphore with a name, as vLLM's engine does."""


def worker(body: str) -> subprocess.Popen[str]:
    """A process that runs `body` and says something when it is ready."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(body)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, f"it ended with {process.wait()}"
    return line


GUARDED = f"""
    import os, subprocess, sys
    from actors.engine_guard import EngineGuard
    guard = EngineGuard()
    with guard.marked():
        engine = subprocess.Popen([sys.executable, "-c", "{ENGINE}"], stdout=subprocess.PIPE, text=True)
        semaphore = engine.stdout.readline().strip()
        folder = os.environ["VLLM_RPC_BASE_PATH"]
    bystander = subprocess.Popen([sys.executable, "-c", "{SLEEP}"], stdout=subprocess.DEVNULL)
    print(engine.pid, bystander.pid, folder, semaphore, flush=True)
    sys.stdin.read()
    guard.close()
"""


def guards(folder: str) -> list[psutil.Process]:
    """The guard that would remove this folder, while it lives."""
    return [one for one in psutil.process_iter(["cmdline"]) if folder in (one.info["cmdline"] or [])]


@pytest.mark.parametrize("killed", [True, False])
def test_what_is_marked_dies_with_a_killed_worker_and_nothing_else(killed: bool) -> None:
    with worker(GUARDED) as process:
        *pids, folder, name = said(process).split()
        semaphore = Path(f"/dev/shm/sem.{name.removeprefix('/')}")
        engine, bystander = (psutil.Process(int(pid)) for pid in pids)
        assert Path(folder).is_dir()
        assert semaphore.exists()
        if killed:
            process.kill()
            engine.wait(timeout=30)
            psutil.wait_procs(guards(folder), timeout=30)
            assert not Path(folder).exists()
        else:
            process.communicate()
            assert engine.is_running()
            assert not Path(folder).exists()
            engine.kill()
        assert not semaphore.exists()
        assert bystander.is_running()
        bystander.kill()


def test_the_mark_is_taken_back_and_the_guard_leaves() -> None:
    guard = EngineGuard()
    with guard.marked():
        mark = os.environ[MARK]
        inner = EngineGuard()
        with inner.marked():
            assert os.environ[MARK] != mark
        assert os.environ[MARK] == mark
        inner.close()
    assert MARK not in os.environ
    assert "VLLM_RPC_BASE_PATH" not in os.environ
    guard.close()
    guard.close()
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in marked_processes(mark)], timeout=30)
    assert alive == []


@pytest.mark.engine
def test_a_real_engine_is_marked(qwen2_audio: DescribeAudioStage) -> None:
    engine = cast(VllmEngine, qwen2_audio._engine)
    marked = {psutil.Process(pid).name() for pid in marked_processes(engine._guard._mark)}
    assert any("EngineCore" in name for name in marked), marked
    assert os.getpid() not in marked_processes(engine._guard._mark)
