"""What Ray Data would hold of blocks that are long gone."""

from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback


class ForgetBlocks(ExecutionCallback):
    """Drops the record that Ray Data (2.60) keeps of each block that an operator gives out, for statistics at its end.

    A kilobyte a block and operator is some 70 GB of the driver's memory over 100 million rows in blocks of eight; and
    an execution's end adds all of them up in the main thread, a second for each 200,000.
    """

    def on_execution_step(self, executor: Any) -> None:  # noqa: ANN401 - Ray's own
        """In the thread that adds them."""
        for operator in executor._topology:
            records: list[object] = getattr(operator, "_output_blocks_stats", [])
            records.clear()


def forget_blocks(context: DataContext) -> None:
    """Has every execution of a context forget its blocks; again is no harm."""
    if ForgetBlocks not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes.append(ForgetBlocks)
