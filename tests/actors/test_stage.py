"""What a pool may ask for; the stage itself is a protocol, held by the contract test over all actors."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.stage import PoolConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_actors": 0}, "pool needs 1 <= min_actors <= max_actors, not 0 and 1"),
        ({"min_actors": 3, "max_actors": 2}, "pool needs 1 <= min_actors <= max_actors, not 3 and 2"),
        ({"num_gpus": -0.5}, "pool: num_gpus, num_cpus and memory_bytes must be finite and not negative"),
        ({"num_cpus": -1.0}, "pool: num_gpus, num_cpus and memory_bytes must be finite and not negative"),
        ({"memory_bytes": -1}, "pool: num_gpus, num_cpus and memory_bytes must be finite and not negative"),
        ({"batch_rows": 0}, "pool: batch_rows and calls must be at least 1"),
        ({"calls": 0}, "pool: batch_rows and calls must be at least 1"),
        ({"nodes": "gpu"}, "pool: nodes is auto, any or cpu, not 'gpu'"),
        ({"num_gpus": 0.1, "nodes": "cpu"}, "pool: workers with GPUs cannot keep to nodes without"),
        ({"accelerator_type": "H100"}, "pool: accelerator_type needs num_gpus"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        PoolConfig(**wrong)
    assert str(caught.value) == message


@pytest.mark.parametrize("amount", [math.inf, math.nan])
@pytest.mark.parametrize("name", ["num_gpus", "num_cpus"])
def test_an_amount_is_a_finite_number(name: str, amount: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        PoolConfig(**{name: amount})  # type: ignore[arg-type]  # one of the two


@pytest.mark.parametrize(
    "least",
    [
        {"num_gpus": 0.0, "num_cpus": 0.0, "memory_bytes": 0, "batch_rows": 1, "calls": 1},
        {"min_actors": 5, "max_actors": 5},
        {"nodes": "cpu", "num_gpus": 0.0},
        {"nodes": "any", "num_gpus": 1.0, "accelerator_type": "L4"},
        {"num_gpus": 0.0001, "accelerator_type": "L4"},
    ],
)
def test_what_is_just_within_the_bounds_is_taken(least: dict[str, Any]) -> None:
    pool = PoolConfig(**least)
    assert {name: getattr(pool, name) for name in least} == least


@given(quarters=st.integers(0, 64))
def test_gpus_are_a_share_of_one_or_whole(quarters: int) -> None:
    if quarters <= 4 or quarters % 4 == 0:
        assert PoolConfig(num_gpus=quarters / 4).num_gpus == quarters / 4
    else:
        with pytest.raises(ValueError, match=rf"a whole number of them, not {quarters / 4:g}$"):
            PoolConfig(num_gpus=quarters / 4)
