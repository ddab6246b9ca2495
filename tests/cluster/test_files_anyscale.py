"""The Anyscale file, read by Anyscale's own config model; it asks nobody."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.files import ANYSCALE, load

if TYPE_CHECKING:
    from anyscale.job.models import JobConfig

Config = dict[str, Any]


@pytest.fixture(scope="module")
def job_config() -> "type[JobConfig]":
    """Anyscale's model of a job's file; its import takes a second that other tests need not wait."""
    from anyscale.job import models

    model: type[JobConfig] = models.JobConfig
    return model


def test_the_model_takes_the_file_and_keeps_every_field(job_config: "type[JobConfig]") -> None:
    config = load(ANYSCALE)
    parsed = job_config.from_dict(config)
    kept = parsed.to_dict()
    assert {name: value for name, value in kept.items() if name != "compute_config"} == {
        name: value for name, value in config.items() if name != "compute_config"
    }
    assert config["compute_config"].items() <= kept["compute_config"].items()


def test_the_head_takes_no_work_and_workers_start_from_none(job_config: "type[JobConfig]") -> None:
    from anyscale.compute_config.models import ComputeConfig

    compute = job_config.from_dict(load(ANYSCALE)).compute_config
    assert isinstance(compute, ComputeConfig)
    assert compute.head_node is not None
    assert compute.head_node.resources == {"CPU": 0}
    assert compute.worker_nodes is not None
    assert {group.name: group.min_nodes for group in compute.worker_nodes} == {"cpu": 0, "gpu": 0}
    assert {group.name: group.labels for group in compute.worker_nodes} == {
        "cpu": {"ray.io/node-group": "cpu"},
        "gpu": {"ray.io/node-group": "gpu", "ray.io/accelerator-type": "H100"},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(entry_point="x"), "entry_point"),
        (lambda config: config.update(max_retries="2"), "max_retries"),
        (lambda config: config["env_vars"].update(LIMIT=3), "env_vars"),
        (lambda config: config["compute_config"].update(workers=[]), "workers"),
        (lambda config: config["compute_config"]["worker_nodes"][0].update(max_node=3), "max_node"),
        (lambda config: config["compute_config"]["worker_nodes"][0].update(market_type="CHEAP"), "MarketType"),
        (lambda config: config["compute_config"]["head_node"]["resources"].update(CPU="0"), "resources"),
    ],
)
def test_the_model_refuses_a_mistake(
    job_config: "type[JobConfig]", change: Callable[[Config], object], message: str
) -> None:
    config = load(ANYSCALE)
    change(config)
    with pytest.raises(TypeError, match=message):
        job_config.from_dict(config)
