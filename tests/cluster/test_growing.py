"""An autoscaling cluster: a run starts on a head alone, grows to what it may have, and gives all of it back."""

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from cluster.nodes import GROUP_LABEL, NodeGroup
from tests.cluster.autoscaling_host import GrowingCluster, growing_cluster, live_nodes
from tests.cluster.disturbed import POOLS, Disturbed

GROUPS = [NodeGroup(name="cpu", max_nodes=1, cpus=4), NodeGroup(name="gpu", max_nodes=2, cpus=2, gpus=1)]
PATIENCE_SECONDS = 120.0


def groups_of(cluster: GrowingCluster) -> Counter[str]:
    """Live nodes by group, the head left out."""
    labels = [node["Labels"] for node in live_nodes(cluster.address)]
    return Counter(one[GROUP_LABEL] for one in labels if GROUP_LABEL in one)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_run_grows_from_a_head_alone_and_gives_its_nodes_back(tmp_path: Path) -> None:
    caption = {**POOLS["caption"], "num_gpus": 1, "max_actors": 8}
    settings = {
        "node_groups": [asdict(group) for group in GROUPS],
        "pools": {
            **POOLS,
            "caption": caption,
            "transcribe": {"num_cpus": 0.25},
            "decode": {"num_cpus": 0.5, "calls": 8},
        },
        "load_seconds": {"caption": 5},
    }
    run = Disturbed(tmp_path, items=320, seconds=0.2, settings=settings)
    most: Counter[str] = Counter()
    where: dict[str, str] = {}
    with growing_cluster(GROUPS) as cluster:
        assert groups_of(cluster) == {}
        driver = run.start(cluster.environment)

        def grown_and_over() -> bool:
            nonlocal most
            most |= groups_of(cluster)
            where.update({one["NodeID"]: one["Labels"].get(GROUP_LABEL, "head") for one in live_nodes(cluster.address)})
            return driver.process.poll() is not None

        driver.reaches(grown_and_over)
        assert driver.wait() == 0, driver.said()[-3000:]
        run.check()
        until = time.monotonic() + PATIENCE_SECONDS
        while groups_of(cluster):
            assert time.monotonic() < until, f"still there: {groups_of(cluster)}"
    assert most == {"cpu": 1, "gpu": 2}
    assert {where[node] for node in run.nodes_of("decode")} == {"cpu"}, "the GPU nodes' cores are the engines'"
    assert {where[node] for node in run.nodes_of("caption")} == {"gpu"}
    assert len(set(run.nodes_of("caption"))) == 2
    assert len(run.nodes_of("caption")) == 2, "no worker was given up after its model had loaded"
