"""A cluster of several nodes on this machine, in a process group of its own, whose nodes a test adds and takes away.

`python -m tests.cluster.cluster_host` runs Ray's own `cluster_utils.Cluster` and does what its standard input says, a
line of JSON each; it answers each line with one.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from tests.cluster.autoscaling_host import end_session
from tests.pipeline.ray_host import ROOT

START_TRIES = 3
STORE_BYTES = 80 * 2**20


class ClusterHost:
    """The test's end of it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nodes-"))
        (self.folder / "ray").mkdir()
        inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        self.environment = {
            **inherited,
            "RAY_AUTH_MODE": "disabled",
            "HF_HUB_OFFLINE": "1",
            "RAY_worker_niceness": "0",
            "RAY_TMPDIR": str(self.folder),
        }
        self._log = self.folder / "host.log"  # paths of sockets have to stay below 108 bytes
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.cluster_host"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.environment["RAY_ADDRESS"] = self._ask({})

    def add(self, *, cpus: int, gpus: int = 0) -> str:
        """Adds a node and returns its id."""
        return self._ask({"add": {"num_cpus": cpus, "num_gpus": gpus, "object_store_memory": STORE_BYTES}})

    def remove(self, node: str, *, graceful: bool = False) -> None:
        """Takes a node away: its processes are killed, or told to end first."""
        self._ask({"remove": node, "graceful": graceful})

    def kill(self) -> None:
        """Kills every process of the cluster at once, the head's included."""
        end_session(self._process.pid)
        self._process.wait()

    def close(self) -> None:
        """Ends it and removes its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ask(self, what: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if what:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the cluster ended: {self._process.wait()}, {self._log.read_text()[-3000:]}"
        return str(json.loads(answer))


@contextlib.contextmanager
def cluster_host() -> Iterator[ClusterHost]:
    """A head without CPUs; nodes are added by the test."""
    host = ClusterHost()
    try:
        yield host
    finally:
        host.close()


def main() -> None:
    """The cluster's end of it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = _try(lambda: Cluster(initialize_head=True, head_node_args=head))
    nodes: dict[str, Any] = {}
    _say(answers, cluster.address)
    for line in sys.stdin:
        what = json.loads(line)
        if "add" in what:
            node = _try(partial(cluster.add_node, wait=True, **what["add"]))
            nodes[node.node_id] = node
            _say(answers, node.node_id)
        else:
            cluster.remove_node(nodes.pop(what["remove"]), allow_graceful=what["graceful"])
            _say(answers, "gone")
    cluster.shutdown()  # whoever started it is gone


def _try(start: Callable[[], Any]) -> Any:  # noqa: ANN401 - a cluster or a node
    """Ray gives a node 30 s to start; on a busy machine it takes longer."""
    for _ in range(START_TRIES - 1):
        try:
            return start()
        except Exception as error:  # noqa: BLE001 - Ray raises nothing narrower
            sys.stderr.write(f"trying again: {error}\n")
    return start()


def _say(answers: Any, text: str) -> None:  # noqa: ANN401 - a text stream
    answers.write(json.dumps(text) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
