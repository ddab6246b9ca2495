"""A node of a test's cluster that runs and goes as a pod of the file for spot nodes does."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.cluster.autoscaling_host import end_session, free_port, live_nodes
from tests.cluster.cluster_host import STORE_BYTES, ClusterHost
from tests.cluster.files import CLUSTER, ROOT, pods
from tests.cluster.job_server import RAY

START_SECONDS = 120.0
SPOT = pods(CLUSTER / "kuberay" / "rayjob-spot.yaml")["gpu"]


@dataclass(frozen=True, slots=True)
class Pod:
    """`ray start --block`, in a session of its own."""

    process: "subprocess.Popen[bytes]"
    node: str
    """Its id."""

    def go(self) -> bool:
        """Tells it to end and kills what is there when its grace is over; says whether it ended before."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(SPOT["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.kill()
        return True

    def kill(self) -> None:
        """As a machine that goes down."""
        end_session(self.process.pid)
        self.process.wait()


@contextlib.contextmanager
def pod(host: ClusterHost, *, cpus: int, gpus: int) -> Iterator[Pod]:
    """Adds one to a cluster, with the environment and the grace of the file."""
    address = host.environment["RAY_ADDRESS"]
    said = {one["name"]: one["value"] for one in SPOT["containers"][0]["env"] if one["name"].startswith("RAY_")}
    command = [
        RAY, "start", "--block", f"--address={address}", f"--node-ip-address={address.partition(':')[0]}",
        f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={STORE_BYTES}",
        "--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={free_port()}",
        "--disable-usage-stats",
    ]  # fmt: skip
    before = {node["NodeID"] for node in live_nodes(address)}
    log = host.folder / "pod.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=host.environment | said, cwd=ROOT, stdout=file, stderr=file, start_new_session=True
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not (new := {node["NodeID"] for node in live_nodes(address)} - before):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.2)
        yield Pod(process, new.pop())
    finally:
        end_session(process.pid)
        process.wait()
