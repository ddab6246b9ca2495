"""Ray's own autoscaler, given a deployment file and what its command asks Ray for: which nodes would it start?

It decides as on a real cluster that is a head alone; nothing is started.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.core.generated import autoscaler_pb2, common_pb2

from actors.stage import PoolConfig
from cluster.capacity import Capacity
from pipeline.cluster_view import make_cluster
from pipeline.graph import RESERVED_CPUS, asked_gpus
from pipeline.placement import Placement, place_all
from tests.cluster.files import AWS, KUBERAY, job_spec, load
from tests.cluster.test_files_pools import HEAD, config, pools

FILES = (*KUBERAY, AWS)
ResourceRequest: Any = autoscaler_pb2.ResourceRequest  # type: ignore[attr-defined]
ResourceRequestByCount: Any = autoscaler_pb2.ResourceRequestByCount  # type: ignore[attr-defined]
IN, NOT_IN = (common_pb2.LabelSelectorOperator.Value(f"LABEL_OPERATOR_{name}") for name in ("IN", "NOT_IN"))  # type: ignore[attr-defined]


def autoscaler_config(path: Path) -> AutoscalingConfig:
    """As KubeRay's operator hands a file to the autoscaler, or `ray up` does."""
    if path == AWS:
        return AutoscalingConfig(prepare_config(load(AWS)))
    resource = {
        "metadata": {"name": "reelscribe", "namespace": "default"},
        "spec": job_spec(path)["rayClusterSpec"],
    }
    return AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(resource))


def nodes_for(path: Path, pools: Mapping[str, PoolConfig], placed: Mapping[str, Placement]) -> dict[str, int]:
    """Nodes of each group that would be started for the workers with which a run begins."""
    whole = autoscaler_config(path)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=whole.get_node_type_configs(),
        max_num_nodes=whole.get_max_num_worker_nodes(),
        resource_requests=[demand(pools[stage], where) for stage, where in placed.items()],
    )
    reply = ResourceDemandScheduler().schedule(request)
    assert Counter(str(one.resources_bundle) for one in reply.infeasible_resource_requests) == {}
    return {one.instance_type: one.count for one in reply.to_launch}


def demand(pool: PoolConfig, where: Placement) -> Any:  # noqa: ANN401 - Ray's own
    bundle = {"CPU": pool.num_cpus, **({"GPU": asked_gpus(pool.num_gpus)} if pool.num_gpus else {})}
    one = ResourceRequest(resources_bundle=bundle)
    if where.label_selector:
        selector = one.label_selectors.add()
        for key, value in where.label_selector.items():
            constraint = selector.label_constraints.add(label_key=key)
            listed = value.removeprefix("!in(").removesuffix(")")
            constraint.operator = IN if listed == value else NOT_IN
            constraint.label_values.extend(listed.split(","))
    return ResourceRequestByCount(request=one, count=where.initial_actors)


@pytest.mark.parametrize("rows_for", [2, 10**4], ids=["two-of-each", "all"])
@pytest.mark.parametrize("accelerator", [None, "H100"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_run_gets_the_nodes_that_its_pools_need_and_no_more(
    path: Path, accelerator: str | None, rows_for: int
) -> None:
    """Decoders on nodes without GPUs also while those with GPUs are still to come, engines as a plan asks for them."""
    settings = config(path)
    wanted = {
        stage: replace(pool, accelerator_type=accelerator) if pool.num_gpus else pool
        for stage, pool in pools(settings).items()
    }
    cluster = make_cluster([HEAD], settings.node_groups)
    beside = Capacity(cpus=RESERVED_CPUS, gpus=0, memory_bytes=0)
    most = {stage: rows_for if pool.num_gpus else 10**4 for stage, pool in wanted.items()}
    placed = place_all(wanted, cluster, beside=beside, most=most)
    groups = {group.name: group for group in settings.node_groups}
    assert nodes_for(path, wanted, placed) == {
        "cpu": math.ceil(placed["decode"].initial_actors / groups["cpu"].cpus),
        "gpu": min(rows_for, groups["gpu"].max_nodes),
    }
