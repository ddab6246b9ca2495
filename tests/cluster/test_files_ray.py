"""The `ray up` file, by the checks that `ray up` makes before it asks the cloud for anything."""

import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from ray.autoscaler._private.aws.config import DEFAULT_AMI, DEFAULT_AMI_NAME
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.files import AWS, load

Config = dict[str, Any]


def prepared(config: Config) -> Config:
    """The config with Ray's defaults for the provider filled in, as `ray up` fills them in, and checked."""
    whole: Config = prepare_config(config)
    validate_config(whole)
    return whole


def test_ray_takes_the_file() -> None:
    config = prepared(load(AWS))
    types = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert types["head"]["resources"]["CPU"] == 0
    assert (types["head"]["min_workers"], types["head"]["max_workers"]) == (0, 0)
    workers = [types[name] for name in ("cpu", "gpu")]
    assert [one["min_workers"] for one in workers] == [0, 0]
    assert sum(one["max_workers"] for one in workers) == config["max_workers"]


def test_no_node_gets_the_image_that_ray_would_choose() -> None:
    """Its driver is older than the CUDA of our image."""
    assert "Ubuntu 18.04" in DEFAULT_AMI_NAME, "look again at what it is"
    for name, type_ in prepared(load(AWS))["available_node_types"].items():
        image = type_["node_config"]["ImageId"]
        assert re.fullmatch(r"ami-[0-9a-f]{17}", image), name
        assert image not in DEFAULT_AMI.values(), name


def test_nothing_is_installed_on_a_node() -> None:
    config = prepared(load(AWS))
    for commands in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert config[commands] == []


def test_every_node_serves_its_metrics() -> None:
    config = load(AWS)
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "--metrics-export-port=8080" in config[commands][-1]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda config: config.update(max_worker=3), jsonschema.ValidationError),
        (lambda config: config["docker"].update(images="x"), jsonschema.ValidationError),
        (
            lambda config: config["available_node_types"]["cpu"]["resources"].update(CPU="32"),
            jsonschema.ValidationError,
        ),
        (lambda config: config["available_node_types"]["cpu"].pop("node_config"), jsonschema.ValidationError),
        (lambda config: config.update(head_node_type="heads"), ValueError),
    ],
)
def test_ray_refuses_a_mistake(change: Callable[[Config], object], error: type[Exception]) -> None:
    config = load(AWS)
    change(config)
    with pytest.raises(error):
        prepared(config)
