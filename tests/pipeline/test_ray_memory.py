"""A long execution takes no more of the driver's memory than a short one."""

from typing import Any

import pytest
import ray
from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

from pipeline.ray_blocks import blocks_of
from pipeline.ray_memory import ForgetBlocks, forget_blocks

BLOCKS = 200
MOST: list[int] = []


class Watched(ExecutionCallback):
    """Notes the most records that an operator holds."""

    def on_execution_step(self, executor: Any) -> None:  # noqa: ANN401 - Ray's own
        MOST.extend(len(getattr(operator, "_output_blocks_stats", ())) for operator in executor._topology)


@pytest.mark.engine
@pytest.mark.parametrize("forget", [True, False])
def test_ray_data_keeps_no_record_of_blocks_that_are_gone(
    light_ray: None, monkeypatch: pytest.MonkeyPatch, forget: bool
) -> None:
    classes: list[type[ExecutionCallback]] = [ForgetBlocks, Watched] if forget else [Watched]
    monkeypatch.setattr(DataContext.get_current(), "custom_execution_callback_classes", classes)
    MOST.clear()
    dataset = ray.data.range(BLOCKS, override_num_blocks=BLOCKS).map_batches(lambda batch: batch, batch_size=None)
    assert sum(block.num_rows for block in blocks_of(dataset)) == BLOCKS
    assert (max(MOST) < BLOCKS / 2) == forget, "without the callback this Ray keeps them all: else it may go"


def test_it_is_asked_for_once() -> None:
    context = DataContext()
    forget_blocks(context)
    forget_blocks(context)
    assert context.custom_execution_callback_classes.count(ForgetBlocks) == 1
