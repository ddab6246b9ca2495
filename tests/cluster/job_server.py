"""A Ray cluster of its own with a job server, as the head of a real one has it."""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
from ray.job_submission import JobStatus, JobSubmissionClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.cluster.autoscaling_host import end_session
from tests.cluster.files import ROOT
from tests.pipeline.drivers import PATIENCE_SECONDS, reaches
from tests.pipeline.scraping import METRICS_MS

T = TypeVar("T")

START_SECONDS = 180.0
LOOK_SECONDS = 0.2
LOOPBACK = {"RAY_AUTH_MODE": "disabled"}
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True, slots=True)
class Job:
    """A command that was submitted."""

    address: str
    submission_id: str

    def stop(self) -> None:
        """`ray job stop`, which comes back once the job has ended."""
        command = [RAY, "job", "stop", f"--address={self.address}", self.submission_id]
        done = subprocess.run(
            command, env=os.environ | LOOPBACK, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> JobStatus:
        return self._client.get_job_status(self.submission_id)

    def said(self) -> str:
        """All that it has said."""
        return self._client.get_job_logs(self.submission_id)

    def wait(self) -> JobStatus:
        """How it ended."""
        reaches(lambda: self.status().is_terminal(), lambda: False, self.said, look_seconds=LOOK_SECONDS)
        return self.status()

    def reaches(self, condition: Callable[[], bool]) -> bool:
        """Waits until the condition holds; False where the job ended before."""
        return reaches(condition, lambda: self.status().is_terminal(), self.said, look_seconds=LOOK_SECONDS)

    @property
    def _client(self) -> JobSubmissionClient:
        return JobSubmissionClient(self.address)


@dataclass(frozen=True, slots=True)
class JobServer:
    """Where jobs are submitted and metrics are scraped."""

    address: str
    metrics: str
    process: "subprocess.Popen[bytes]"
    """`ray start --block`, or what holds its pod."""

    def end_pod(self) -> None:
        """SIGTERM to the pod's first process, as where a pod is told to go; waits until that has ended."""
        (first,) = psutil.Process(self.process.pid).children()
        first.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_SECONDS)

    def submit(self, entrypoint: str) -> Job:
        """Submits a command as `ray job submit` does; on a busy machine the head has no agent for it at first."""
        client = JobSubmissionClient(self.address)
        return Job(self.address, _once_there(lambda: client.submit_job(entrypoint=entrypoint)))

    def run(self, entrypoint: str) -> tuple[JobStatus, str]:
        """Submits a command and follows its log; returns how it ended and what it said."""
        client = JobSubmissionClient(self.address)
        job = self.submit(entrypoint)

        async def follow() -> str:
            return "".join([lines async for lines in client.tail_job_logs(job.submission_id)])

        said = asyncio.run(follow())
        return job.status(), said


@contextlib.contextmanager
def job_server(
    *, cpus: int = 6, gpus: int = 0, as_pod: bool = False, others: Sequence[str] = (), **variables: str
) -> Iterator[JobServer]:
    """Starts Ray as its image would: this Python is the PATH's, and the project can be imported from anywhere.

    Args:
        cpus: Of the head.
        gpus: Of the head; they are only counted.
        others: Options of `ray start` for each further node, which is no part of the head's pod.
        as_pod: As the first process of a PID namespace, in the shell in which KubeRay puts it (source: its
            controllers/ray/common/pod.go).
        variables: Of its environment.
    """
    folder = tempfile.mkdtemp(prefix="t")  # short: Ray's sockets lie in it
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {**LOOPBACK, "RAY_worker_niceness": "0", "PATH": path, "PYTHONPATH": str(ROOT)}
    environment["RAY_metrics_report_interval_ms"] = str(METRICS_MS)
    environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"  # nobody moves elsewhere in the end
    dashboard, agent, client, metrics, gcs = _free_ports(5)
    command = [
        RAY, "start", "--head", "--block", "--disable-usage-stats", f"--port={gcs}", f"--temp-dir={folder}",
        "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", f"--num-gpus={gpus}",
        f"--object-store-memory={200 * 2**20}",
        f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
        f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}",
    ]  # fmt: skip
    if as_pod:
        command = [*NAMESPACE, "/bin/bash", "-c", "--", f"ulimit -n 65536; {shlex.join(command)}"]
    head = subprocess.Popen(command, cwd=folder, env={**environment, **variables}, stdout=subprocess.DEVNULL)
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        server = JobServer(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{metrics}", head)

        def answers() -> None:
            assert head.poll() is None, f"Ray ended with {head.returncode}"
            JobSubmissionClient(server.address).list_jobs()

        _once_there(answers)
        for options in others:
            join = [
                RAY, "start", "--block", f"--address=127.0.0.1:{gcs}", "--node-ip-address=127.0.0.1",
                "--disable-usage-stats", f"--dashboard-agent-listen-port={_free_ports(1)[0]}", *options.split(),
                f"--object-store-memory={200 * 2**20}", "--min-worker-port=0", "--max-worker-port=0",
            ]  # fmt: skip
            nodes.append(
                subprocess.Popen(join, cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
            )
        yield server
    finally:
        for node in nodes:
            end_session(node.pid)
            node.wait()
        head.send_signal(signal.SIGKILL if as_pod else signal.SIGTERM)  # with it go the processes that it has started
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _once_there(ask: Callable[[], T]) -> T:
    """What a job server answers, once it does."""
    no_answer = retry_if_exception_type((OSError, RuntimeError))
    return Retrying(stop=stop_after_delay(START_SECONDS), wait=wait_fixed(0.5), retry=no_answer, reraise=True)(ask)


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
