"""An autoscaling cluster: a run starts on a head alone, grows to what it may have, and gives all of it back."""

import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from cluster.nodes import GROUP_LABEL, NodeGroup
from tests.again import RecordProperty
from tests.clips import make_clip
from tests.cluster.autoscaling_host import GrowingCluster, growing_cluster, live_nodes
from tests.cluster.disturbed import POOLS, Disturbed
from tests.jobs.described import command
from tests.pipeline.drivers import last_report
from tests.pipeline.wrapped_stages import noted_lines

PRICES = """\
currency: EUR
node_types:
  cpu: {cpus: 4, memory: 64GiB, price_per_hour: 1.0}
  gpu: {cpus: 2, gpus: 1, memory: 64GiB, price_per_hour: 3.0}
"""
GROUPS = [NodeGroup(name="cpu", max_nodes=1, cpus=4), NodeGroup(name="gpu", max_nodes=2, cpus=2, gpus=1)]
PATIENCE_SECONDS = 120.0


def groups_of(cluster: GrowingCluster) -> Counter[str]:
    """Live nodes by group, the head left out."""
    labels = [node["Labels"] for node in live_nodes(cluster.address)]
    return Counter(one[GROUP_LABEL] for one in labels if GROUP_LABEL in one)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_run_grows_from_a_head_alone_and_gives_its_nodes_back(
    tmp_path: Path, record_property: RecordProperty
) -> None:
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
    run = Disturbed(tmp_path, record_property, items=320, seconds=0.2, settings=settings)
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    most: Counter[str] = Counter()
    where: dict[str, str] = {}
    with growing_cluster(GROUPS) as cluster:
        assert groups_of(cluster) == {}
        driver = run.start(cluster.environment, prices=prices)

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
    report = last_report(run.output)
    nodes, hours = report["node_costs"], report["seconds"] / 3600
    pools = sum(line["price"] for line in report["ledger"].values())
    assert nodes["most_nodes"] == 3
    assert 1.0 < nodes["mean_nodes"] < 3.0, "they come one after the other"
    assert pools < nodes["cost"] < hours * report["prices"]["cluster_per_hour"] == pytest.approx(hours * 7.0)
    assert {where[node] for node in run.nodes_of("decode")} == {"cpu"}, "the GPU nodes' cores are the engines'"
    assert {where[node] for node in run.nodes_of("caption")} == {"gpu"}
    assert len(set(run.nodes_of("caption"))) == 2
    assert len(run.nodes_of("caption")) == 2, "no worker was given up after its model had loaded"


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_run_gives_nodes_back_that_it_does_not_need_and_goes_on(
    tmp_path: Path, record_property: RecordProperty
) -> None:
    """One slow decoder feeds captioners on three nodes: one is enough, and whoever goes has had no row in hand."""
    groups = [GROUPS[0], replace(GROUPS[1], max_nodes=3)]
    settings = {
        "node_groups": [asdict(group) for group in groups],
        "pools": {
            "decode": {"num_cpus": 1, "max_actors": 1},
            "caption": {**POOLS["caption"], "num_gpus": 0.6, "max_actors": 3},
            "transcribe": {"num_cpus": 0.25, "num_gpus": 0.2, "max_actors": 3},
            "embed": POOLS["embed"],
        },
        "load_seconds": {"caption": 5},
        "slow_while": {"decode": 0.5},
        "graph": {"shrink_seconds": 10.0, "place_anew_seconds": 3.0},
    }
    (tmp_path / "slow").touch()
    run = Disturbed(tmp_path, record_property, items=1600, seconds=0.01, settings=settings)
    with growing_cluster(groups) as cluster:
        driver = run.start(cluster.environment)

        def gpu_nodes(count: int) -> bool:
            return driver.reaches(lambda: groups_of(cluster)["gpu"] == count, look_seconds=0.5)

        assert gpu_nodes(3), driver.said()[-3000:]
        assert gpu_nodes(1), driver.said()[-3000:]
        run.works(driver, run.done("caption") + 40)
        (tmp_path / "slow").unlink()
        assert driver.wait() == 0, driver.said()[-3000:]
    run.check()
    assert len(run.nodes_of("caption")) == 3, "none went before its time, and none had to come again"
    assert "placing the stages anew" not in driver.said(), "nodes that were given back are not lost"
    for note in ("reads", "caption.done"):
        lines = noted_lines(run.notes / note)
        assert len(lines) == len(set(lines)), "nothing ran again"


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_plan_brings_the_nodes_that_its_probe_needs(tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for number in range(4):
        make_clip(source / f"clip{number}.mp4", seconds=1.0)
    config = {
        "recipe": "tiny",
        "node_groups": [asdict(group) for group in GROUPS],
        "transcribe": {"pool": {"num_gpus": 0.5}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "prices.yaml").write_text(PRICES)
    with growing_cluster(GROUPS) as cluster:
        done = command(
            "plan", "--source", str(source), "--output", str(output), "--config", str(tmp_path / "config.yaml"),
            "--prices", str(tmp_path / "prices.yaml"), "--stages", "transcribe", **cluster.environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    assert "Cluster      1 cpu + 2 gpu, 7.00 EUR an hour" in done.stdout
    assert "Note: a node took " in done.stdout
    (file,) = (output / "plans").iterdir()
    written = yaml.safe_load(file.read_text())
    assert written["overrides"]["transcribe"]["pool"]["max_actors"] <= 4
    assert written["gpu_hours"]["middle"] > 0
