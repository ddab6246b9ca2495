"""The marker `needs_gpu`: what it says where no NVIDIA GPU is there."""

import os
import shutil
import subprocess
from functools import cache

import pytest


@cache
def missing_gpu() -> str | None:
    """Why there is no NVIDIA GPU here, or None where there is one. The driver's own tool says: torch takes seconds."""
    if shutil.which("nvidia-smi") is None:
        return "needs an NVIDIA GPU: there is no nvidia-smi here"
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"needs an NVIDIA GPU: nvidia-smi does not answer ({type(error).__name__})"
    if done.returncode or not done.stdout.startswith("GPU "):
        return f"needs an NVIDIA GPU: nvidia-smi lists none (exit code {done.returncode})"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of the test, and only where such a test is to run."""
    if item.get_closest_marker("needs_gpu") is None:
        return
    reason = missing_gpu()
    if reason is not None and os.environ.get("FAIL_WITHOUT_GPU") == "1":
        pytest.fail(f"{reason}, and FAIL_WITHOUT_GPU=1", pytrace=False)
    if reason is not None:
        pytest.skip(reason)
