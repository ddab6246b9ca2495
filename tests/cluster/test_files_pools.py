"""Each deployment file's command on the nodes that the file itself describes: a head without work, groups from none."""

import shlex
from pathlib import Path
from subprocess import list2cmdline
from typing import Any

import pytest

from actors.stage import PoolConfig
from cluster.capacity import Capacity
from jobs.annotate import options_of
from jobs.cli import config_of
from pipeline.cluster_view import make_cluster
from pipeline.config import RunConfig
from pipeline.graph import RESERVED_CPUS
from pipeline.placement import place_all, pools_fit
from tests.cluster.files import ANYSCALE, AWS, KUBERAY, entrypoint, job_spec, load

FILES = (*KUBERAY, ANYSCALE, AWS)
HEAD: dict[str, Any] = {
    "NodeID": "head",
    "Labels": {},
    "Resources": {"node:__internal_head__": 1.0, "memory": 2.0**34},
}
INSTANCES = {"m7i.8xlarge": (32, 0), "p5.4xlarge": (16, 1)}
"""vCPUs and GPUs, by Amazon's own tables of instance types."""


def config(path: Path) -> RunConfig:
    """What the file's command runs with."""
    return config_of(options_of(shlex.split(entrypoint(path))[3:]))


def described(path: Path) -> set[tuple[str, int, float, float]]:
    """Name, most nodes, CPUs and GPUs of each group of workers that a file describes."""
    if path == ANYSCALE:
        groups = load(path)["compute_config"]["worker_nodes"]
        return {(one["name"], one["max_nodes"], *INSTANCES[one["instance_type"]]) for one in groups}
    if path == AWS:
        types = {name: one for name, one in load(path)["available_node_types"].items() if name != "head"}
        assert {name: (one["resources"]["CPU"], one["resources"].get("GPU", 0)) for name, one in types.items()} == {
            name: INSTANCES[one["node_config"]["InstanceType"]] for name, one in types.items()
        }
        return {
            (name, one["max_workers"], one["resources"]["CPU"], one["resources"].get("GPU", 0))
            for name, one in types.items()
        }
    found: set[tuple[str, int, float, float]] = set()
    for group in job_spec(path)["rayClusterSpec"]["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        gpus = float(limits.get("nvidia.com/gpu", 0))
        found.add((group["groupName"], group["maxReplicas"], float(limits["cpu"]), gpus))
    return found


def pools(settings: RunConfig) -> dict[str, PoolConfig]:
    """In the order of `pipeline.spec.as_asked`, which wants specs, and so the hub."""
    found: dict[str, PoolConfig] = {stage: getattr(settings, stage).pool for stage in settings.stages}
    order = sorted(found, key=lambda stage: (stage != "decode", stage == "embed", -found[stage].num_gpus))
    return {stage: found[stage] for stage in order}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_command_names_the_groups_of_its_file(path: Path) -> None:
    named = {(group.name, group.max_nodes, group.cpus, group.gpus) for group in config(path).node_groups}
    assert named == described(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_pools_fit_a_head_alone_that_may_grow_and_take_every_gpu(path: Path) -> None:
    settings = config(path)
    beside = Capacity(cpus=RESERVED_CPUS, gpus=0, memory_bytes=0)
    cluster = make_cluster([HEAD], settings.node_groups)
    placed = place_all(pools(settings), cluster, beside=beside, most=dict.fromkeys(settings.stages, 10**4))
    with_gpus = {stage: pool for stage, pool in pools(settings).items() if pool.num_gpus}
    held = sum(placed[stage].initial_actors * pool.num_gpus for stage, pool in with_gpus.items())
    assert held == pytest.approx(sum(group.max_nodes * group.gpus for group in settings.node_groups))
    assert len({placed[stage].initial_actors for stage in with_gpus}) == 1, "one of each on each GPU"
    assert placed["decode"].initial_actors > 1


@pytest.mark.parametrize("gpus", range(1, 9))
@pytest.mark.parametrize("name", ["paper", "modern"])
def test_a_recipe_has_one_engine_of_each_on_each_gpu_of_one_machine(name: str, gpus: int) -> None:
    wanted = pools(config_of(options_of(["--output", "x", "--recipe", name])))
    resources = {**HEAD["Resources"], "CPU": 64.0, "GPU": float(gpus)}
    machine = make_cluster([{**HEAD, "Resources": resources}], [])
    beside = Capacity(cpus=RESERVED_CPUS, gpus=0, memory_bytes=0)
    placed = place_all(wanted, machine, beside=beside, most=dict.fromkeys(wanted, 10**4))
    engines = {stage: pool for stage, pool in wanted.items() if pool.num_gpus}
    assert {placed[stage].initial_actors for stage in engines} == {gpus}
    assert sum(pool.num_gpus for pool in engines.values()) == pytest.approx(1.0)
    assert pools_fit({stage: (gpus, pool) for stage, pool in engines.items()}, machine)
    one_more = {"caption": (gpus + 1, engines["caption"])}
    assert not pools_fit(one_more, machine), "no two of the largest share a GPU"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_command_comes_through_the_shells_between_here_and_there(path: Path) -> None:
    """A shell takes it apart, `ray job submit` joins it again (`list2cmdline`), and the job's shell takes it apart."""
    command = entrypoint(path)
    arguments = shlex.split(command)
    assert not set('$`\\"!') & set(command)
    assert shlex.split(list2cmdline(arguments)) == arguments
    assert all("'" in command and " " in one for one in arguments if set("{[*?") & set(one)), "no shell expands it"
