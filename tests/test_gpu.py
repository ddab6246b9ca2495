"""`needs_gpu` as `tests/conftest.py` has it: another pytest, where a GPU is listed and where none is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MARKED = """
import pytest

@pytest.fixture
def engine():
    print("an engine was started")

@pytest.mark.needs_gpu
def test_on_a_gpu(engine):
    pass

def test_anywhere():
    pass
"""
LISTS_ONE = "echo 'GPU 0: NVIDIA Made Up (UUID: GPU-0)'"
NO_DRIVER = "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9"
NO_DEVICE = "echo 'No devices were found'"


@pytest.mark.parametrize(
    ("tool", "variable", "code", "said"),
    [
        (LISTS_ONE, "1", 0, r"\n2 passed"),
        (None, "", 0, r"SKIPPED \[1\] .*needs an NVIDIA GPU: there is no nvidia-smi here\n1 passed, 1 skipped"),
        (NO_DRIVER, "0", 0, r"SKIPPED \[1\] .*nvidia-smi lists none \(exit code 9\)\n1 passed, 1 skipped"),
        (NO_DEVICE, "", 0, r"SKIPPED \[1\] .*nvidia-smi lists none \(exit code 0\)\n1 passed, 1 skipped"),
        (
            None,
            "1",
            1,
            r"\nneeds .* there is no nvidia-smi here, and FAIL_WITHOUT_GPU=1\n1 passed, 1 error",
        ),
    ],
)
def test_what_needs_a_gpu_is_skipped_without_one_or_fails_where_it_must_not_be(
    tmp_path: Path, tool: str | None, variable: str, code: int, said: str
) -> None:
    (tmp_path / "test_marked.py").write_text(MARKED)
    tools = tmp_path / "tools"
    tools.mkdir()
    if tool is not None:
        (tools / "nvidia-smi").write_text(f"#!/bin/sh\n{tool}\n")
        (tools / "nvidia-smi").chmod(0o755)
    options = ["-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-rs", "-s"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tools), "FAIL_WITHOUT_GPU": variable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(said, done.stdout), done.stdout
    assert ("an engine was started" in done.stdout) == (tool == LISTS_ONE)
