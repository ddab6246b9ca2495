"""Runs a grid's cells as Ray tasks; what is stored already is not run again."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ray

from cluster.capacity import Capacity
from pipeline.cells import Arm, Cell, CellResult, cell_path, decode_cell, encode_cell, run_cell
from pipeline.evaluation import EvaluateConfig, EvaluationData
from pipeline.graph import GraphConfig
from pipeline.ray_nodes import live_nodes
from pipeline.ray_session import LocalRayConfig, ray_session
from recsys.features import Features
from recsys.protocol import Split
from storage.stores import Store

logger = logging.getLogger(__name__)

TASK_RETRIES = 1
"""How often a cell whose worker died is tried again."""


@dataclass(slots=True, kw_only=True)
class GridOutcome:
    """What came of a grid."""

    results: dict[Cell, CellResult] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)
    reused: int = 0
    """Cells that an earlier run had stored."""

    def sort(self, cells: Sequence[Cell]) -> None:
        """Puts all into the order of the cells, whichever was done first."""
        places = {cell: place for place, cell in enumerate(cells)}
        self.results = dict(sorted(self.results.items(), key=lambda pair: places[pair[0]]))
        self.failures = dict(sorted(self.failures.items(), key=lambda pair: places[pair[0]]))


def run_grid(store: Store, data: EvaluationData, cells: Sequence[Cell], config: EvaluateConfig) -> GridOutcome:
    """Runs the cells that have no result yet. Each result is stored as it comes: a kill costs the cells in progress.

    Args:
        store: Where results lie.
        data: Users, items and features.
        cells: What is wanted.
        config: Models, training and the share of a machine that a cell gets.

    Returns:
        Results and failures in the order of the cells.
    """
    split_digest, feature_digests = data.split_digest(), data.feature_digests()
    paths = {cell: cell_path(cell, config.arm(cell.model), split_digest, feature_digests) for cell in cells}
    stored = {entry.path for entry in store.list("cells/")}
    outcome = GridOutcome()
    for cell in cells:
        if paths[cell] in stored:
            outcome.results[cell] = decode_cell(store.read_bytes(paths[cell]))
    outcome.reused = len(outcome.results)
    pending = [cell for cell in cells if cell not in outcome.results]
    if not pending:
        return outcome
    with ray_session(LocalRayConfig(num_cpus=os.cpu_count()), GraphConfig()):
        _run(store, data, pending, config, paths, outcome)
    outcome.sort(cells)
    return outcome


def cell_threads(nodes: Sequence[Capacity], pending: int, config: EvaluateConfig, *, on_gpu: bool) -> int:
    """Cores for each cell: many cells take one each, since one thread wastes nothing; few share what there is.

    Args:
        nodes: What each node has.
        pending: Cells to run.
        config: Says how many, or leaves it open.
        on_gpu: Whether the cell holds a share of a GPU; then it gets that share of the GPU's cores at most.
    """
    able = [node for node in nodes if node.gpus > 0] if on_gpu else nodes
    largest = max(node.cpus for node in able)
    if config.threads is not None:
        return max(1, min(config.threads, int(largest)))
    if on_gpu:
        largest = max(node.cpus * min(1.0, config.gpu_share / node.gpus) for node in able)
    return max(1, int(min(sum(node.cpus for node in nodes) // pending, largest)))


def _run(
    store: Store,
    data: EvaluationData,
    pending: Sequence[Cell],
    config: EvaluateConfig,
    paths: Mapping[Cell, str],
    outcome: GridOutcome,
) -> None:
    nodes = [Capacity.of(node["Resources"]) for node in live_nodes()]
    has_gpus = any(node.gpus > 0 for node in nodes)
    split = ray.put(data.split)
    features = {name: ray.put(one) for name, one in data.features.items()}
    cells: dict[ray.ObjectRef[bytes], Cell] = {}
    for cell in pending:
        on_gpu = has_gpus and config.arm(cell.model) is not None
        gpu_share = config.gpu_share if on_gpu else 0.0
        threads = cell_threads(nodes, len(pending), config, on_gpu=on_gpu)
        task = _cell_task.options(
            num_cpus=threads,
            num_gpus=gpu_share,
            max_retries=TASK_RETRIES,
            name=str(cell),
        )
        sources = [features[source] for source in cell.sources]
        cells[task.remote(cell, config.arm(cell.model), threads, gpu_share, split, *sources)] = cell
    waiting = list(cells)
    while waiting:
        done, waiting = ray.wait(waiting)
        for reference in done:
            _take(store, reference, cells[reference], paths, outcome, total=len(cells), left=len(waiting))


def _take(
    store: Store,
    reference: "ray.ObjectRef[bytes]",
    cell: Cell,
    paths: Mapping[Cell, str],
    outcome: GridOutcome,
    *,
    total: int,
    left: int,
) -> None:
    """Stores a result, or says why there is none."""
    try:
        encoded = ray.get(reference)
    except ray.exceptions.RayError as error:
        outcome.failures[cell] = reason_of(error.cause if isinstance(error, ray.exceptions.RayTaskError) else error)
        logger.error("cell=%s failed: %s", cell, outcome.failures[cell])
        return
    if not store.create(paths[cell], encoded):
        encoded = store.read_bytes(paths[cell])  # another run was first
    result = outcome.results[cell] = decode_cell(encoded)
    best = result.test[0]
    logger.info(
        "cell=%s hr@%d=%.4f ndcg@%d=%.4f epochs=%d cpu_seconds=%.0f gpu_seconds=%.0f done=%d/%d",
        cell, best.k, best.hit_rate, best.k, best.ndcg, result.cost.epochs,
        result.cost.cpu_seconds, result.cost.gpu_seconds, total - left, total,
    )  # fmt: skip


def reason_of(error: BaseException) -> str:
    """The error's type and the last line of its message, which with Ray's own is what happened."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


@ray.remote
def _cell_task(cell: Cell, arm: Arm | None, threads: int, gpu_share: float, split: Split, *features: Features) -> bytes:
    return encode_cell(run_cell(cell, arm, split, features, threads=threads, gpu_share=gpu_share))
