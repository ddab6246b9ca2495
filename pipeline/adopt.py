"""Taking over what stopped runs have journalled: each row once, and only files that were read go."""

import logging

import numpy as np

from pipeline.committer import Committer
from pipeline.plan import Plan
from storage.journals import Wanted, journal_files
from storage.stores import Store

logger = logging.getLogger(__name__)

_FLUSH_ROWS = 4096
"""So many adopted rows at most are in memory: a run that was stopped with many shards open leaves millions."""


class PendingShards:
    """Answers whether a plan has work between two shards, in the time of one look."""

    def __init__(self, plan: Plan) -> None:
        pending = np.zeros(len(plan.shard_ids) + 1, dtype=np.int64)
        pending[plan.order + 1] = 1
        self._before = np.cumsum(pending)

    def __call__(self, first: str, last: str) -> bool:
        """Whether any shard from one id to another, both included, has work."""
        end = len(self._before) - 1
        return bool(self._before[min(int(last) + 1, end)] > self._before[min(int(first), end)])


def adopt_journals(
    store: Store,
    committer: Committer,
    own_run_id: str,
    *,
    wanted: Wanted,
    whole: Wanted,
) -> int:
    """Reads other runs' journals, as far as they hold wanted shards, into a journal of this run's own.

    An old file then goes; but a run of some stages or shards leaves one of which it did not take every row, since a run
    of the others may want them. So a run that works beside this one on other shards loses nothing. Rows with a failure
    are nobody's: they run again.

    Args:
        store: The output.
        committer: Takes the rows.
        own_run_id: The run whose journal is left alone.
        wanted: Whether this run works on any shard from one id to another, both included.
        whole: Whether this run does all that is pending in these shards: what it does not take nobody ever will.

    Returns:
        How many rows were taken over.
    """
    adopted = 0
    done: list[str] = []
    for run_id in store.folders("runs/"):
        for file in journal_files(store, run_id) if run_id != own_run_id else ():
            failed = taken = 0
            for row in file.read(wanted):
                failed += row.failed
                taken += not row.failed and wanted(row.shard_id, row.shard_id) and committer.adopt(row)
                if len(committer.in_memory) >= _FLUSH_ROWS:
                    committer.flush_journal()
            adopted += taken
            if taken + failed == file.rows or all(whole(*group) for group in file.groups):
                done.append(file.path)
    if adopted:
        logger.info("took over %d items from the journal of a stopped run", adopted)
    committer.flush_journal()
    store.delete(done)
    return adopted
