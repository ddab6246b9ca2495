"""A Ray cluster of its own with a job server, as the head of a real one has it."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ray.job_submission import JobStatus, JobSubmissionClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.cluster.files import ROOT

START_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class JobServer:
    """Where jobs are submitted and metrics are scraped."""

    address: str
    metrics: str

    def run(self, entrypoint: str) -> tuple[JobStatus, str]:
        """Submits a command as `ray job submit` does and follows its log; returns how it ended and what it said."""
        client = JobSubmissionClient(self.address)
        job = client.submit_job(entrypoint=entrypoint)

        async def follow() -> str:
            return "".join([lines async for lines in client.tail_job_logs(job)])

        said = asyncio.run(follow())
        return client.get_job_status(job), said


@contextlib.contextmanager
def job_server(**variables: str) -> Iterator[JobServer]:
    """Starts Ray as its image would: this Python is the PATH's, and the project can be imported from anywhere."""
    folder = tempfile.mkdtemp(prefix="t")  # short: Ray's sockets lie in it
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "PATH": path, "PYTHONPATH": str(ROOT)}
    environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"  # nobody moves elsewhere in the end
    dashboard, agent, client, metrics = _free_ports(4)
    head = subprocess.Popen(
        [
            "ray", "start", "--head", "--block", "--disable-usage-stats", "--port=0", f"--temp-dir={folder}",
            "--node-ip-address=127.0.0.1", "--num-cpus=6", f"--object-store-memory={200 * 2**20}",
            f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
            f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}",
        ],
        cwd=folder, env={**environment, **variables}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        server = JobServer(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{metrics}")
        answers = retry_if_exception_type((ConnectionError, RuntimeError))
        for attempt in Retrying(
            stop=stop_after_delay(START_SECONDS), wait=wait_fixed(0.5), retry=answers, reraise=True
        ):
            with attempt:
                assert head.poll() is None, f"Ray ended with {head.returncode}"
                JobSubmissionClient(server.address).list_jobs()
        yield server
    finally:
        head.send_signal(signal.SIGTERM)  # it ends the processes that it has started
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
