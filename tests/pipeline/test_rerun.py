"""What runs again after a pass, and how: every shard in the end, or the run ends with an error that names one."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.blame import STRIKES
from pipeline.gate import PassSeen
from pipeline.rerun import UNREAD_TRIES, Rerun
from pipeline.tasks import Tasks
from records.errors import FailureKind, FatalError
from tests.pipeline.light import SPECS, MemoryTables, plan_for

PLAN = plan_for(MemoryTables(), 3)
FIRST, SECOND, THIRD = PLAN.shard_ids
KEY = ("clip", 1)
STAGES = len(SPECS)


class OneRow:
    """Stands for the reader: one row a shard."""

    def lines(self, task: object) -> list[Any]:
        return [SimpleNamespace(item=SimpleNamespace(key=KEY, video_id=KEY[0]))]


def lost(rerun: Rerun, *shards: int) -> Tasks:
    return Tasks(plan=PLAN, indices=np.asarray(shards, dtype=np.int64), presets=rerun.presets)


def after(rerun: Rerun, tasks: Tasks, seen: PassSeen, *, gave_up: bool = False) -> tuple[list[int], bool]:
    reader: Any = OneRow()
    again, one_by_one = rerun.after(tasks, seen, reader, gave_up=gave_up)
    return again.indices.tolist(), one_by_one


def test_what_nobody_read_runs_as_before_and_the_rest_row_by_row() -> None:
    rerun = Rerun(stages=STAGES)
    assert after(rerun, lost(rerun, 0, 2), PassSeen(issued=[FIRST, SECOND])) == ([2], False)
    assert after(rerun, lost(rerun, 0), PassSeen(issued=[THIRD])) == ([0], True)


def test_after_a_pass_that_was_given_up_all_run_as_before_however_often() -> None:
    rerun = Rerun(stages=STAGES)
    for _ in range(20 * STRIKES * STAGES):
        assert after(rerun, lost(rerun, 0, 1), PassSeen(), gave_up=True) == ([0, 1], False)
    assert after(rerun, lost(rerun, 0), PassSeen(issued=[FIRST])) == ([0], True)
    running = {(FIRST, *KEY): "caption"}
    for _ in range(20 * STRIKES):
        assert after(rerun, lost(rerun, 0), PassSeen(issued=[FIRST], running=running), gave_up=True) == ([0], False)
    assert rerun.presets == {}, "a row that was on its way when its pass was given up is not to blame"


def test_a_row_that_is_lost_alone_twice_in_one_stage_is_to_blame() -> None:
    rerun = Rerun(stages=STAGES)
    assert after(rerun, lost(rerun, 0), PassSeen(issued=[FIRST])) == ([0], True)
    for strike in range(STRIKES):
        assert (rerun.presets == {}) == (strike < STRIKES)
        tasks = lost(rerun, 0)
        after(rerun, tasks, PassSeen(issued=[FIRST], running={(FIRST, *KEY): "caption"}))
    (task,) = tasks
    assert task.preset[KEY]["caption"].kind == FailureKind.WORKER_CRASHED


def test_shards_that_nobody_can_read_end_the_run_with_the_reason() -> None:
    rerun = Rerun(stages=STAGES)
    unread = PassSeen(unread={THIRD: "no such object"})
    for _ in range(UNREAD_TRIES):
        assert after(rerun, lost(rerun, 2), unread) == ([2], False)
    with pytest.raises(FatalError, match=rf"^shard {THIRD} and 0 others never came back whole \(no such object\)$"):
        after(rerun, lost(rerun, 2), unread)
    with pytest.raises(FatalError, match=r"the process that read it died each time"):
        after(rerun, lost(rerun, 2), PassSeen())


def test_rows_that_never_come_back_and_are_never_to_blame_end_the_run() -> None:
    rerun = Rerun(stages=STAGES)
    for _ in range(STRIKES * STAGES + 1):
        assert after(rerun, lost(rerun, 1), PassSeen(issued=[SECOND])) == ([1], True)
    with pytest.raises(
        FatalError, match=f"^shard {SECOND} and 0 others never came back whole \\(its rows were lost\\)$"
    ):
        after(rerun, lost(rerun, 1), PassSeen(issued=[SECOND]))
