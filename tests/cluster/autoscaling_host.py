"""A cluster that grows: Ray's autoscaler with Ray's fake nodes, all on this machine, in a process group of its own.

The fake provider starts a real raylet for each node, with resources that are only counted. `AutoscalingCluster`, Ray's
own way to start it, misses a file in the wheel of 2.60; this does what it would do.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray._private.state import GlobalState
from ray._raylet import GcsClientOptions  # type: ignore[attr-defined]
from ray.exceptions import RaySystemError
from tenacity import retry, retry_if_exception_type, stop_after_delay

from cluster.nodes import NodeGroup
from tests.pipeline.ray_host import ROOT

HEAD_ID = "f" * 51 + "00000"
STORE_BYTES = 80 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowingCluster:
    """A head, and an autoscaler that starts nodes of its groups."""

    address: str
    environment: dict[str, str]
    """For drivers."""


@contextlib.contextmanager
def growing_cluster(groups: list[NodeGroup], *, idle_seconds: float = 8.0) -> Iterator[GrowingCluster]:
    """A head without CPUs and no other node; ends with all its processes."""
    folder = Path(tempfile.mkdtemp(prefix="reelscribe-grow-"))
    port = free_port()
    file = folder / "autoscaler.json"
    file.write_text(json.dumps(_config(groups, port, idle_seconds)))
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    drivers = {**inherited, "RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1", "RAY_worker_niceness": "0"}
    head = {
        **drivers,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1",
        f"--port={port}", f"--temp-dir={folder}", "--num-cpus=0", f"--object-store-memory={STORE_BYTES}",
        "--include-dashboard=false", f"--autoscaling-config={file}", "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / "head.log").open("wb") as log:
        host = subprocess.Popen(command, cwd=ROOT, env=head, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"127.0.0.1:{port}"
        _await_head(address, host, folder / "head.log")
        yield GrowingCluster(address=address, environment={**drivers, "RAY_ADDRESS": address})
    finally:
        end_session(host.pid)
        host.wait()
        shutil.rmtree(folder, ignore_errors=True)


@retry(retry=retry_if_exception_type(RaySystemError), stop=stop_after_delay(120), reraise=True)
def live_nodes(address: str) -> list[dict[str, Any]]:
    """What `ray.nodes()` would say, asked from outside: no driver joins the cluster. A busy head is asked again."""
    state = GlobalState()  # type: ignore[no-untyped-call]
    state._initialize_global_state(
        GcsClientOptions.create(address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
    )
    try:
        return [node for node in state.node_table() if node["Alive"]]  # type: ignore[no-untyped-call]
    finally:
        state.disconnect()  # type: ignore[no-untyped-call]


def end_session(leader: int) -> None:
    """Kills every process of a session that a test has started."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ProcessLookupError):
            if os.getsid(int(entry.name)) == leader:
                os.kill(int(entry.name), signal.SIGKILL)


def _config(groups: list[NodeGroup], port: int, idle_seconds: float) -> Mapping[str, Any]:
    types: dict[str, Any] = {"ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}}
    for group in groups:
        types[group.name] = {
            "resources": {"CPU": int(group.cpus), "GPU": int(group.gpus), "object_store_memory": STORE_BYTES},
            "labels": dict(group.kind().labels),
            "node_config": {},
            "min_workers": 0,
            "max_workers": group.max_nodes,
        }
    empty_lists = (
        "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
        "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter",
    )  # fmt: skip
    return {
        "cluster_name": "fake",
        "max_workers": sum(group.max_nodes for group in groups),
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
            "gcs_address": f"127.0.0.1:{port}",
        },
        "available_node_types": types,
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_seconds / 60,
        **{name: [] for name in empty_lists},
    }


def _await_head(address: str, host: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 120
    while "Ray runtime started" not in log.read_text():
        assert host.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < until, log.read_text()[-2000:]
        time.sleep(0.1)
    assert live_nodes(address)


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
