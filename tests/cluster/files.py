"""The deployment files under cluster/, and the command that each runs."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = sorted((CLUSTER / "kuberay").glob("*.yaml"))
ANYSCALE = CLUSTER / "anyscale" / "job.yaml"
AWS = CLUSTER / "ray" / "aws.yaml"
DASHBOARD = CLUSTER / "grafana" / "reelscribe.json"
DOCKERFILE = CLUSTER / "Dockerfile"
LOCK = ROOT / "requirements" / "gpu.txt"

_SUBMITTED = re.compile(r"^#\s+ray job submit .*? -- \\\n((?:#\s+.+ \\\n)*#\s+.+)$", re.MULTILINE)


def load(path: Path) -> dict[str, Any]:
    """The one YAML document of a file."""
    loaded = yaml.safe_load(path.read_text())
    assert isinstance(loaded, dict), path
    return loaded


def job_spec(path: Path) -> dict[str, Any]:
    """What a KubeRay file says of its RayJob."""
    document = load(path)
    spec: dict[str, Any] = document["spec"]["jobTemplate"] if document["kind"] == "RayCronJob" else document["spec"]
    return spec


def pods(path: Path) -> dict[str, dict[str, Any]]:
    """Group to the spec of its pods, in a KubeRay file; the head is a group too."""
    cluster = job_spec(path)["rayClusterSpec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {name: group["template"]["spec"] for name, group in {"head": cluster["headGroupSpec"], **groups}.items()}


def entrypoint(path: Path) -> str:
    """The command that a file runs, or in its first lines tells its reader to."""
    if path in KUBERAY:
        return str(job_spec(path)["entrypoint"])
    if path == ANYSCALE:
        return str(load(path)["entrypoint"])
    found = _SUBMITTED.search(path.read_text())
    assert found, f"{path} shows no `ray job submit`"
    return " ".join(line.removesuffix("\\").strip("# ") for line in found.group(1).splitlines())


def locked(package: str, lock: Path = LOCK) -> str:
    """The version that a lock has of a package."""
    found = re.search(rf"^{re.escape(package)}==(\S+)", lock.read_text(), re.MULTILINE)
    assert found, f"{package} is not in {lock}"
    return found.group(1)
