"""The KubeRay files: valid by KubeRay's own schemas, and what the three have in common is equal in all of them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.crds import needs_crds, problems, validator
from tests.cluster.files import KUBERAY, job_spec, load, locked, pods

BACKFILL, SPOT, NIGHTLY = (
    next(path for path in KUBERAY if path.name == name)
    for name in ("rayjob.yaml", "rayjob-spot.yaml", "raycronjob.yaml")
)
Spec = dict[str, Any]


@needs_crds
@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_a_file_is_valid_by_its_resource_definition(path: Path) -> None:
    document = load(path)
    assert problems(document, validator(document["kind"], document["apiVersion"])) == []


def _of_cluster(change: Callable[[Spec], object]) -> Callable[[Spec], object]:
    return lambda document: change(document["spec"]["rayClusterSpec"])


@needs_crds
@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda document: document["spec"].update(entrypoints="x"), "entrypoints"),
        (lambda document: document["spec"].update(backoffLimit="2"), "backoffLimit"),
        (_of_cluster(lambda spec: spec["workerGroupSpecs"][0].pop("maxReplicas")), "maxReplicas"),
        (_of_cluster(lambda spec: spec["autoscalerOptions"].update(version="2")), "autoscalerOptions.version"),
        (_of_cluster(lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0})), "num-cpus"),
        (
            _of_cluster(lambda spec: spec["headGroupSpec"]["template"]["spec"]["containers"][0].update(enviroment=[])),
            "containers[0]",
        ),
        (
            _of_cluster(lambda spec: spec["headGroupSpec"]["template"]["spec"]["volumes"][0].update(emptyDirs={})),
            "volumes[0]",
        ),
    ],
)
def test_a_mistake_is_seen(change: Callable[[Spec], object], where: str) -> None:
    document = load(BACKFILL)
    change(document)
    assert any(where in problem for problem in problems(document, validator("RayJob", "ray.io/v1")))


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
class TestEachFile:
    """What no schema says."""

    def test_the_head_takes_no_work_and_workers_start_from_none(self, path: Path) -> None:
        cluster = job_spec(path)["rayClusterSpec"]
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
        assert set(groups) == {"cpu", "gpu"}
        for group in groups.values():
            assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
        gpus = {
            name: pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for name, pod in pods(path).items()
        }
        assert gpus == {"head": None, "cpu": None, "gpu": "1"}

    def test_pods_are_never_restarted_as_another_node(self, path: Path) -> None:
        assert {pod["restartPolicy"] for pod in pods(path).values()} == {"Never"}

    def test_no_pod_is_moved_to_save_a_node(self, path: Path) -> None:
        cluster = job_spec(path)["rayClusterSpec"]
        kept = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            assert group["template"]["metadata"]["annotations"] == kept

    def test_ray_is_the_locks(self, path: Path) -> None:
        spec = job_spec(path)
        assert spec["rayClusterSpec"]["rayVersion"] == locked("ray")
        (submitter,) = spec["submitterPodTemplate"]["spec"]["containers"]
        assert submitter["image"] == f"rayproject/ray:{locked('ray')}-py311"

    def test_every_volume_that_is_mounted_is_there(self, path: Path) -> None:
        for pod in pods(path).values():
            mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}

    def test_the_name_fits_what_kuberay_makes_of_it(self, path: Path) -> None:
        name = load(path)["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
        assert len(name) <= 47  # KubeRay, ray-operator/controllers/ray/utils: MaxRayJobNameLength

    def test_the_cluster_goes_with_the_job(self, path: Path) -> None:
        spec = job_spec(path)
        assert spec["shutdownAfterJobFinishes"] is True
        assert spec["backoffLimit"] > 0


def _without(spec: Spec, *names: str) -> Spec:
    return {name: value for name, value in spec.items() if name not in names}


def test_the_nightly_run_is_the_backfill_with_other_arguments_and_a_deadline() -> None:
    nightly, backfill = job_spec(NIGHTLY), job_spec(BACKFILL)
    assert nightly["entrypoint"] == f"{backfill['entrypoint']} --refresh --order newest --deadline 06:00"
    assert _without(nightly, "entrypoint", "activeDeadlineSeconds") == _without(backfill, "entrypoint")
    (hour,) = re.findall(r"^0 (\d+) \* \* \*$", load(NIGHTLY)["spec"]["schedule"])
    assert nightly["activeDeadlineSeconds"] > (6 - int(hour)) * 3600


def test_spot_workers_are_all_that_is_different_on_spot() -> None:
    head, *workers = pods(SPOT).values()
    assert head["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}
    assert [pod["nodeSelector"] for pod in workers] == [{"karpenter.sh/capacity-type": "spot"}] * 2
    spot, backfill = job_spec(SPOT), job_spec(BACKFILL)
    for spec in (spot, backfill):
        cluster = spec["rayClusterSpec"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            group["template"]["spec"].pop("nodeSelector", None)
    assert spot == backfill
