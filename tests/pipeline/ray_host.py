"""A Ray of its own process, so that many drivers can share one and be killed without taking it along.

`python -m tests.pipeline.ray_host` starts it, prints its address and stops it when its standard input ends: also
when whoever started it was killed.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ray

from pipeline.graph import GraphConfig
from pipeline.ray_session import LocalRayConfig, ray_session

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def ray_host(**variables: str) -> Iterator[dict[str, str]]:
    """Starts Ray with this process's environment and these; yields the environment for drivers, stops it in the end."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1", **variables}
    host = subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.ray_host"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert host.stdin is not None
    assert host.stdout is not None
    try:
        address = host.stdout.readline().strip()
        assert address, f"Ray did not start: exit code {host.wait()}"
        yield {**environment, "RAY_ADDRESS": address}
    finally:
        host.stdin.close()
        host.wait()


def main() -> None:
    """Holds Ray until standard input ends."""
    with ray_session(LocalRayConfig(object_store_bytes=512 * 2**20), GraphConfig()):
        sys.stdout.write(f"{ray.get_runtime_context().gcs_address}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
