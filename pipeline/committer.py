"""The single committer: rows come in whole and in any order, shards go out whole, upstream stages first.

It runs in the driver and knows nothing of Ray. A row that arrives twice counts once, the first arrival whole. Rows
whose shard is not complete wait in memory until a journal takes them. A complete shard that holds failures waits until
the circuit breaker has seen enough further rows to tell a bad video from a broken credential.
"""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from pipeline.breaker import Breaker, doubted
from pipeline.merged_rows import merged_rows
from pipeline.open_shard import Key, OpenShard, Outcomes
from pipeline.plan import ShardTask
from pipeline.spec import Specs
from records.errors import BusyError, FatalError
from records.failures import kinds_of
from records.flow import FlowRow
from records.items import CatalogItem
from records.schemas import JournalRow, StageRow

logger = logging.getLogger(__name__)


class StageFiles(Protocol):
    """What committing asks of the stage tables."""

    def read(self, stage: str, fingerprint: str, shard_id: str, generation: int) -> list[StageRow]: ...

    def commit(
        self,
        stage: str,
        fingerprint: str,
        shard_id: str,
        generation: int,
        rows: Sequence[StageRow],
        footer: Mapping[str, str],
    ) -> bool: ...


class RowJournal(Protocol):
    """What committing asks of the run's journal."""

    def append(self, rows: Sequence[JournalRow]) -> int: ...

    def read(self, shard_id: str) -> Iterable[JournalRow]: ...

    def forget(self, shard_id: str) -> None: ...


class Committer:
    """Collects rows and commits shards.

    Args:
        specs: The graph.
        task_of: Shard id to its task in this run's plan.
        items_of: Shard id to the items of the shard that are to have a line, in order.
        tables: The stage tables.
        journal: This run's journal.
        breaker: Sees every row's failures.
        footer: What every file says of the run that wrote it.
        on_row: Called with each item's line as it arrives for the first time.
    """

    def __init__(
        self,
        *,
        specs: Specs,
        task_of: Callable[[str], ShardTask],
        items_of: Callable[[str], Sequence[CatalogItem]],
        tables: StageFiles,
        journal: RowJournal,
        breaker: Breaker,
        footer: Mapping[str, str],
        on_row: Callable[[FlowRow], None] = lambda line: None,
    ) -> None:
        self._specs = specs
        self._task_of = task_of
        self._items_of = items_of
        self._tables = tables
        self._journal = journal
        self._breaker = breaker
        self._footer = dict(footer)
        self._on_row = on_row
        self._shards: dict[str, OpenShard] = {}
        self.committed: set[str] = set()
        """Shards committed in this run."""
        self.lock = threading.RLock()
        """Guards what has arrived; free while a shard is written, so that a journal need not wait for that."""
        self._held: set[str] = set()
        self.in_memory: dict[tuple[str, int], None] = {}
        """Rows without a failure that no journal holds yet, by shard and position, in order of arrival."""
        self._failed_in_memory: dict[tuple[str, int], None] = {}
        """Those with one."""
        self.errors: Counter[str] = Counter()
        """Rows of this run by kind of failure."""
        self.rows = 0
        """Items that arrived in this run, each once."""
        self.failed_rows = 0
        """Those with at least one failure."""
        self.rows_before_pass = self.shards_before_pass = 0
        """Rows that had arrived and shards that were committed when this pass began."""

    @property
    def committed_shards(self) -> int:
        """Shards committed in this run."""
        return len(self.committed)

    def adopt(self, row: JournalRow) -> bool:
        """Takes a row from an earlier run's journal if it is what this run would make; says whether it did."""
        shard = self._shard(row.shard_id)
        targets = shard.task.targets
        fits = all(
            row.fingerprints.get(stage) == self._specs[stage].fingerprint and row.generations.get(stage) == target
            for stage, target in targets.items()
        )
        # What this run neither makes nor finds committed would be lost: the row waits for a run that makes it too.
        kept = row.outcomes.keys() <= targets.keys() | shard.task.existing.keys()
        if not fits or not kept or not targets.keys() <= row.outcomes.keys():
            return False
        if row.position is None or shard.has(row.position) or row.failed:
            return False
        shard.rows[row.position] = row.key, {stage: row.outcomes[stage] for stage in targets}
        shard.before_pass += 1
        self.in_memory[row.shard_id, row.position] = None
        return True

    def begin_pass(self) -> None:
        """Forgets how many rows each shard was to bring: a new pass issues anew what has not arrived."""
        self.rows_before_pass, self.shards_before_pass = self.rows, len(self.committed)
        for shard in self._shards.values():
            shard.before_pass = shard.arrived
            shard.expected = None

    def arrived(self, shard_id: str) -> int:
        """The rows of a shard that need not be issued again: bit n for position n."""
        shard = self._shards.get(shard_id)
        return shard.positions() if shard else 0

    def is_committed(self, shard_id: str) -> bool:
        """Whether this run committed the shard, or has all of its rows and only waits for the breaker."""
        return shard_id in self.committed or shard_id in self._held

    def add(self, lines: Iterable[FlowRow]) -> None:
        """Takes lines as they come out of the graph and commits the shards they complete. For one thread."""
        with self.lock:
            touched: dict[str, None] = {}
            for line in lines:
                if line.shard_id in self.committed:
                    continue
                shard = self._shard(line.shard_id)
                shard.expected = shard.before_pass + line.issued_rows
                touched[line.shard_id] = None
                if not line.is_header and not shard.has(line.position):
                    self._take(line, shard)
            for shard_id in touched:
                if self._shards[shard_id].complete:
                    self._held.add(shard_id)
                    self._shards[shard_id].commit_after_rows = self._breaker.rows + self._breaker.settle_rows
        self._commit_settled()

    def _take(self, line: FlowRow, shard: OpenShard) -> None:
        outcomes = {stage: line.outcomes[stage] for stage in line.pending}
        shard.rows[line.position] = line.item.key, outcomes
        kinds = kinds_of(outcomes)
        self._breaker.record(kinds)
        self._on_row(line)
        self.rows += 1
        self.errors.update(kinds)
        shard.failed |= bool(doubted(kinds))
        self.failed_rows += bool(kinds)
        waiting = self._failed_in_memory if kinds else self.in_memory
        waiting[line.shard_id, line.position] = None

    def flush_journal(self) -> int:
        """Journals every whole row in memory; says how many of them have no failure: the others run on a resume.

        From any thread, also while a shard is committed.
        """
        with self.lock:
            rows: defaultdict[str, list[int]] = defaultdict(list)
            for shard_id, position in (*self.in_memory, *self._failed_in_memory):
                rows[shard_id].append(position)
            if rows:
                self._journal.append([row for shard_id in sorted(rows) for row in self._journal_rows(shard_id, rows)])
            for shard_id, positions in rows.items():
                self._shards[shard_id].saved(positions)
            good = len(self.in_memory)
            self.in_memory.clear()
            self._failed_in_memory.clear()
            return good

    def finish(self) -> None:
        """Ends the run: commits what was held back, unless the breaker tripped; then those failures are dropped."""
        self._breaker.end()
        tripped = self._breaker.tripped
        for shard_id in sorted(self._held):
            if tripped is None or not self._shards[shard_id].failed:
                self._commit(shard_id)
        if tripped is not None:
            self._held.clear()

    def incomplete(self) -> list[str]:
        """Shards of which something arrived, or was adopted, but not all."""
        return [shard_id for shard_id, shard in self._shards.items() if shard_id not in self._held]

    def _shard(self, shard_id: str) -> OpenShard:
        if shard_id not in self._shards:
            self._shards[shard_id] = OpenShard(task=self._task_of(shard_id))
        return self._shards[shard_id]

    def _commit_settled(self) -> None:
        if self._breaker.tripped is not None:
            return
        for shard_id in sorted(self._held):
            shard = self._shards[shard_id]
            if not shard.failed or self._breaker.rows >= shard.commit_after_rows:
                self._commit(shard_id)

    def _commit(self, shard_id: str) -> None:
        with self.lock:
            shard = replace(self._shards[shard_id])  # a journal may take rows of it meanwhile
        items = self._items_of(shard_id)
        outcomes = shard.outcomes(self._journal.read(shard_id) if shard.journalled else ())
        for stage in self._specs:
            if stage in shard.task.targets:
                self._commit_stage(stage, shard.task, items, outcomes)
        with self.lock:
            for position in shard.rows:
                self.in_memory.pop((shard_id, position), None)
                self._failed_in_memory.pop((shard_id, position), None)
            del self._shards[shard_id]
            self._held.discard(shard_id)
            self.committed.add(shard_id)
        self._journal.forget(shard_id)
        run_id, stages = self._footer.get("run_id"), ",".join(shard.task.targets)
        logger.info("committed run_id=%s shard_id=%s stages=%s items=%d", run_id, shard_id, stages, len(items))

    def _commit_stage(
        self, stage: str, task: ShardTask, items: Sequence[CatalogItem], outcomes: Mapping[Key, Outcomes]
    ) -> None:
        fingerprint, target = self._specs[stage].fingerprint, task.targets[stage]
        stored: dict[Key, StageRow] = {}
        if stage in task.existing:
            old_rows = self._tables.read(stage, fingerprint, task.shard_id, task.existing[stage])
            stored = {row.key: row for row in old_rows}
        rows = merged_rows(items, stored, {key: of.get(stage) for key, of in outcomes.items()}, target)
        if len(rows) != len(items):
            raise FatalError(f"{stage} of shard {task.shard_id}: {len(items)} items but {len(rows)} results and errors")
        footer = {**self._footer, **self._specs[stage].footer}
        if not self._tables.commit(stage, fingerprint, task.shard_id, target, rows, footer):
            raise BusyError(
                f"another run committed {stage} of shard {task.shard_id} while this one held it; run the command again"
            )

    def _journal_rows(self, shard_id: str, positions: Mapping[str, Sequence[int]]) -> list[JournalRow]:
        shard = self._shards[shard_id]
        targets = shard.task.targets
        fingerprints = {stage: self._specs[stage].fingerprint for stage in targets}
        return [
            JournalRow(
                shard_id=shard.task.shard_id,
                position=position,
                video_id=key[0],
                version=key[1],
                fingerprints=fingerprints,
                generations=targets,
                outcomes=outcomes,
            )
            for position in positions[shard_id]
            for key, outcomes in [shard.rows[position]]
        ]
