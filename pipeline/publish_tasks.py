"""Runs a publish's tasks with Ray Data: one block each, small answers back, and any loss ends the publish."""

import contextlib
import functools
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.data import DataContext

from pipeline.graph import GraphConfig
from pipeline.publish_config import PublishConfig
from pipeline.ray_blocks import blocks_of
from pipeline.ray_session import LocalRayConfig, ray_session
from records.errors import ReelscribeError, TransientError, one_line

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Runner:
    """Takes a block of one pickled task to its answer: a value, or what a person must hear."""

    work: Callable[[Any], dict[str, Any]]

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        answers: list[tuple[dict[str, Any], str]] = []
        for pickled in batch["task"]:
            try:
                answers.append((self.work(pickle.loads(pickled)), ""))
            except FileNotFoundError as error:
                answers.append(({}, f"{error.filename or error} is gone: was it pruned? Publish again"))
            except (ReelscribeError, TransientError) as error:
                answers.append(({}, str(error)))
        return {"answer": [pickle.dumps(answer) for answer in answers]}


TaskRunner = Callable[[Sequence[Any], Callable[[Any], dict[str, Any]]], Iterator[dict[str, Any]]]
"""Takes tasks and what does one of them, picklable; gives the answers as they come."""


@contextlib.contextmanager
def ray_tasks(local: LocalRayConfig, graph: GraphConfig, config: PublishConfig) -> Iterator[TaskRunner]:
    """A runner on the cluster whose address is given, or on a Ray of this process."""
    with ray_session(local, graph):
        yield functools.partial(run_tasks, config)


def run_tasks(
    config: PublishConfig, tasks: Sequence[T], work: Callable[[T], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The tasks' answers as they come, in any order.

    Raises:
        ReelscribeError: A task failed, or its workers died more often than Ray tries; the first is named.
    """
    if not tasks:
        return
    with _no_lost_blocks():
        runner: Any = _Runner(work)
        dataset = ray.data.from_items(
            [{"task": pickle.dumps(task)} for task in tasks], override_num_blocks=len(tasks)
        ).map_batches(
            lambda batch: runner(batch),
            batch_size=None,
            batch_format="numpy",
            num_cpus=config.task_cpus,
            memory=config.task_memory_bytes or None,
        )
    answered = 0
    try:
        for block in blocks_of(dataset):
            answers: Any = block["answer"]
            for pickled in answers.to_pylist():
                answer, wrong = pickle.loads(pickled)
                if wrong:
                    raise ReelscribeError(wrong)
                answered += 1
                yield answer
    except ray.exceptions.RayError as error:
        logger.debug("a task of the publish died", exc_info=error)
        raise ReelscribeError(f"a task of the publish died, the same command goes on: {_reason(error)}") from error
    if answered != len(tasks):
        raise ReelscribeError(f"{len(tasks) - answered} of {len(tasks)} tasks did not come back: publish again")


def _reason(error: ray.exceptions.RayError) -> str:
    """What a task raised, which Ray Data hands on as text alone: the end of the first of its tracebacks."""
    if not isinstance(error, ray.exceptions.RayTaskError):
        return one_line(error)
    return str(error).partition("\nThe above exception")[0].strip().splitlines()[-1].strip()


@contextlib.contextmanager
def _no_lost_blocks() -> Iterator[None]:
    """A dataset keeps the settings of the moment it was made in: those of a run let single blocks go."""
    context = DataContext.get_current()
    before = context.max_errored_blocks
    context.max_errored_blocks = 0
    try:
        yield
    finally:
        context.max_errored_blocks = before
