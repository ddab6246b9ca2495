"""What a cell gets of the cluster, what it costs, and how the grid tells of its cells."""

from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cluster.capacity import Capacity
from pipeline.cells import Cell, held_gpu_seconds
from pipeline.evaluation import EvaluateConfig
from pipeline.grid import GridOutcome, cell_threads, reason_of


def node(cpus: float, gpus: float = 0.0) -> Capacity:
    return Capacity(cpus=cpus, gpus=gpus, memory_bytes=0)


@pytest.mark.parametrize(
    ("nodes", "pending", "on_gpu", "threads"),
    [
        ([node(16)], 40, False, 1),
        ([node(16)], 4, False, 4),
        ([node(16), node(4)], 1, False, 16),
        ([node(64), node(8, 1)], 2, False, 36),
        ([node(64), node(8, 1)], 2, True, 2),
        ([node(64), node(64, 8)], 1, True, 2),
        ([node(64), node(2, 1)], 1, True, 1),
        ([node(0), node(0, 1)], 1, True, 1),
    ],
)
def test_threads_of_a_cell(nodes: list[Capacity], pending: int, on_gpu: bool, threads: int) -> None:
    assert cell_threads(nodes, pending, EvaluateConfig(gpu_share=0.25), on_gpu=on_gpu) == threads


def test_threads_that_are_given_are_kept_as_far_as_a_node_that_the_cell_may_run_on_has_them() -> None:
    nodes, config = [node(64), node(8, 1)], EvaluateConfig(threads=12)
    assert (cell_threads(nodes, 9, config, on_gpu=False), cell_threads(nodes, 9, config, on_gpu=True)) == (12, 8)


@given(
    st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=4),
    st.integers(1, 50),
    st.one_of(st.none(), st.integers(1, 100)),
    st.floats(0.01, 1.0),
)
def test_some_node_holds_every_cell(
    shapes: list[tuple[int, int]], pending: int, given_threads: int | None, share: float
) -> None:
    nodes = [node(cpus, gpus) for cpus, gpus in shapes]
    config = EvaluateConfig(threads=given_threads, gpu_share=share)
    for on_gpu in (False, True) if any(gpus for _, gpus in shapes) else (False,):
        threads = cell_threads(nodes, pending, config, on_gpu=on_gpu)
        assert any(one.cpus >= threads >= 1 and (one.gpus > 0 or not on_gpu) for one in nodes)


def test_a_share_of_a_gpu_costs_its_share_of_the_time() -> None:
    assert held_gpu_seconds(torch.device("cuda:0"), 100.0, 0.25) == 25.0
    assert held_gpu_seconds(torch.device("cpu"), 100.0, 0.25) == 0.0


def test_an_error_without_words_is_told_by_its_type() -> None:
    assert reason_of(ValueError("first\nwhat happened\n")) == "ValueError: what happened"
    for error in (AssertionError(), MemoryError(" \n")):
        assert reason_of(error) == type(error).__name__


def test_results_come_in_the_order_of_the_cells() -> None:
    cells = [Cell(model="sasrec", row=("id",), seed=seed) for seed in range(6)]
    outcome = GridOutcome(
        results={cell: cast(Any, None) for cell in (cells[3], cells[0], cells[5])},
        failures={cells[4]: "b", cells[1]: "a"},
    )
    outcome.sort(cells)
    assert list(outcome.results) == [cells[0], cells[3], cells[5]]
    assert outcome.failures == {cells[1]: "a", cells[4]: "b"}
    assert list(outcome.failures) == [cells[1], cells[4]]
