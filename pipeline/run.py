"""One run: lease, plan, phases, report. Everything `jobs.annotate` does once its arguments are understood."""

import contextlib
import json
import logging
import signal
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import numpy as np
from rich.console import Console

from pipeline.adopt import PendingShards, adopt_journals
from pipeline.breaker import Breaker
from pipeline.cluster_view import read_cluster
from pipeline.committer import Committer
from pipeline.config import RunConfig
from pipeline.execute import Phase
from pipeline.gate import GateHandle, Gates, gates
from pipeline.graph import Graph
from pipeline.in_flight import InFlight
from pipeline.limits import Limits
from pipeline.metrics import Publisher
from pipeline.node_bill import NodeBill
from pipeline.order import shard_priority
from pipeline.phases import Placer
from pipeline.placement import Placement
from pipeline.plan import Plan, make_plan
from pipeline.pool_watch import PoolWatch
from pipeline.progress import Progress, Snapshot
from pipeline.ray_nodes import why_own_node_goes
from pipeline.ray_session import ray_session
from pipeline.remaining import Remaining
from pipeline.report import RunReport, library_versions
from pipeline.retry import failed_shards
from pipeline.run_metrics import PhaseMetrics
from pipeline.run_plan import planned_phases
from pipeline.run_request import RunRequest
from pipeline.spec import Specs, select_specs
from pipeline.stats import RowForecast, RunStats
from pipeline.stop import StopFlag, leave_now, watch_signals
from pipeline.tasks import Tasks
from records.errors import one_line
from records.items import CatalogItem
from storage.catalog import Catalog
from storage.journals import Journal, delete_run_journals
from storage.leases import Lease
from storage.stage_tables import StageTables
from storage.stores import Store

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Run:
    """One run on one output, under a lease that is held already."""

    request: RunRequest
    config: RunConfig
    specs: Specs
    store: Store
    lease: Lease
    run_id: str
    console: Console
    flag: StopFlag = field(default_factory=StopFlag)
    limits: Limits = field(default_factory=Limits)
    _adopted: int = 0
    _removed: int = 0
    _pools: PoolWatch = field(default_factory=PoolWatch)
    _bill: NodeBill | None = None
    _place_anew: Callable[[Mapping[str, Placement]], Mapping[str, Placement]] = dict
    """Where the workers of the phase under way go once nodes are gone."""
    _gates: Gates = field(init=False)
    _on_signal: Callable[[int], None] = field(init=False)
    _publisher: Publisher = field(init=False)
    _report: RunReport = field(init=False)
    _remaining: Remaining = field(init=False)

    def execute(self) -> RunReport:
        """Plans, runs what is missing in one or more phases, and writes the report.

        Raises:
            UserError: The cluster is too small for a stage, a stage does not exist.
            BusyError: Another run took over.
        """
        started = time.monotonic()
        catalog = Catalog.open(self.store)
        assert catalog is not None, "jobs list the source first"
        selected = select_specs(self.specs, self.request.stages)
        plan = self._plan(catalog, list(selected))
        self._publisher = Publisher((self.run_id,))
        self._report = RunReport.begin(self.run_id, self.store.root, self.request, catalog, plan, self.specs)
        self._remaining = Remaining(plan, catalog.live_counts())
        stats = RunStats(selected)
        with contextlib.ExitStack() as signals:  # until the report is there: Ray takes its time to shut down
            try:
                if plan.pending_shards:
                    self._run_phases(catalog, plan, list(selected), stats, signals)
                elif self.request.stages is None and self.request.shards is None:
                    for run_id in self.store.folders("runs/"):  # one killed after its last commit left its journal
                        delete_run_journals(self.store, run_id)
            except Exception as error:
                if self._report.phases:  # else nothing had begun
                    self._finish_report(stats, started, error)
                raise
            self._finish_report(stats, started)
        return self._report

    def _between_phases(self, number: int) -> None:
        """Nothing is on its way: a second signal ends the process, as in a phase."""
        if not self.flag.set(f"received {signal.Signals(number).name}", signal_number=number):
            leave_now(self.flag)

    def _finish_report(self, stats: RunStats, started: float, error: Exception | None = None) -> None:
        self._report.seconds = time.monotonic() - started
        self._report.stages = stats.stages
        self._report.keep_ledger(self._pools.times(), self.specs)
        self._report.node_costs = self._bill.costs() if self._bill is not None else None
        self._report.stopped = self.flag.reason if error is None else one_line(error)
        self._report.planned_stop = self.flag.planned
        self._report.items_from_journal = self._adopted
        self._report.gpu_hours_held = self.limits.gpu_hours_held
        self._report.remaining = self._remaining.of_stages()
        try:
            self.store.create(f"runs/{self.run_id}/report.json", self._report.as_json().encode())
            self.store.create(f"runs/{self.run_id}/report.md", self._report.as_markdown().encode())
        except Exception as second:
            if error is None:
                raise
            logger.warning("no report could be written: %s", one_line(second))

    def _run_phases(
        self, catalog: Catalog, plan: Plan, selected: list[str], stats: RunStats, signals: contextlib.ExitStack
    ) -> None:
        with ray_session(self.config.local_ray, self.config.graph):
            self._on_signal = self._between_phases
            signals.enter_context(watch_signals(self.flag, lambda number: self._on_signal(number)))
            needed = [stage for stage in selected if plan.pending_of(stage)]
            rows = int(catalog.live_counts()[plan.order].sum())
            groups = self.config.node_groups
            most = InFlight.of(plan, catalog.live_counts(), self.config.graph, self.config.gate)
            placer = Placer(
                specs=self.specs, rows=rows, in_flight=most, whole=lambda: read_cluster(groups), live=read_cluster
            )
            self._bill = NodeBill.open(groups, self.request.prices, self.request.plan)
            self._report.prices = self._bill.prices if self._bill is not None else None
            self._report.phases = phases = placer.phases(planned_phases(self.request.plan, needed), needed)
            for number, stages in enumerate(phases):
                if self.flag.is_set:
                    return
                placed = placer.begin(stages)
                title = "+".join(stages) if len(phases) > 1 else "annotate"
                retried = {stage for phase in phases[:number] for stage in phase}
                phase_plan = plan if len(phases) == 1 else self._plan(catalog, stages, plan, retried)
                with gates(self.config.gate) as opened:
                    graph = self._graph(catalog, selected, opened.open(), placed)
                    self._gates, self._place_anew = opened, partial(placer.anew, stages)
                    self._run_phase(catalog, phase_plan, graph, stages, stats, title)

    def _plan(
        self, catalog: Catalog, stages: Sequence[str], whole: Plan | None = None, retried: Collection[str] = ()
    ) -> Plan:
        """What `stages` must do of a whole plan; of those in `retried` an earlier phase has run the failures again."""
        tables, kinds = StageTables(self.store), self.request.retry_kinds
        again = [stage for stage in stages if stage not in retried]
        shards, shard_range = catalog.shard_count, self.request.shards_in(catalog)
        plan = make_plan(
            shard_ids=catalog.shard_ids(),
            tables=tables,
            metadata=catalog.files.metadata.astype(np.int32),
            titles=catalog.files.titles.astype(np.int32),
            returned=catalog.files.returned.astype(np.int32),
            specs=self.specs,
            selected=stages,
            retry=None if kinds is None else failed_shards(tables, self.specs, again, kinds, shards, shard_range),
            whole=whole,
            shard_range=shard_range,
        )
        if self.request.order != "oldest":
            plan = plan.ordered(shard_priority(catalog, self.request.order))
        if self.request.limit is None:
            return plan
        items = np.cumsum(catalog.live_counts()[plan.order])
        return plan.first(int(np.searchsorted(items, self.request.limit)) + 1)

    def _graph(
        self, catalog: Catalog, selected: Sequence[str], gate: GateHandle, placed: Mapping[str, Placement]
    ) -> Graph:
        return Graph(
            specs=self.specs,
            modalities={name: str(self.specs[name].modality) for name in selected if self.specs[name].modality},
            output_uri=self.request.output_uri,
            catalog_revision=catalog.revision,
            gate=gate,
            config=self.config.graph,
            store=self.config.store,
            placements=placed,
        )

    def _run_phase(
        self, catalog: Catalog, plan: Plan, graph: Graph, stages: Sequence[str], stats: RunStats, title: str
    ) -> None:
        breaker = Breaker(self.config.breaker, enabled=self.request.retry_kinds is None)
        metrics = PhaseMetrics(
            publisher=self._publisher, stats=stats, pools=self._pools, limits=self.limits, bill=self._bill
        )
        committer = self._committer(catalog, plan, breaker, metrics)
        self._removed = 0
        self._adopted += adopt_journals(
            self.store, committer, self.run_id, wanted=PendingShards(plan), whole=self._does_all_of
        )
        tasks = Tasks.of(plan, catalog, committer.arrived)
        journalled = {shard_id: committer.arrived(shard_id).bit_count() for shard_id in committer.incomplete()}
        stats.forecast = forecast = RowForecast(catalog.live_counts(), plan.order, journalled)
        look = partial(self._snapshot, title, committer, tasks, forecast)
        with Progress(stats, self._pools.times, self._pools.workers, self.console) as progress:
            phase = Phase(
                graph=graph,
                gates=self._gates,
                committer=committer,
                stats=stats,
                flag=self.flag,
                config=self.config.loop,
                limits=self.limits,
                pools=self._pools,
                tripped=lambda: breaker.tripped,
                place_anew=self._place_anew,
                why_stop=self._why_stop,
                on_tick=lambda: metrics.tick(look, committer, progress.draw),
            )
            self._on_signal = phase.on_signal
            try:
                phase.run(tasks)
            finally:
                self._on_signal = self._between_phases
                self._count(stages, committer, breaker)
        self.limits.begin_pass()  # nothing is on its way any more
        metrics.tick(look, committer)
        if not self.flag.is_set and not committer.incomplete():
            delete_run_journals(self.store, self.run_id)

    def _count(self, stages: Sequence[str], committer: Committer, breaker: Breaker) -> None:
        """What a phase did, however it ended."""
        self._report.items_run = max(self._report.items_run, committer.rows)
        self._report.items_with_errors = max(self._report.items_with_errors, committer.failed_rows)
        self._report.items_removed = max(self._report.items_removed, self._removed)
        self._report.tripped = breaker.tripped
        self._remaining.take(stages, committer.committed)
        self._report.shards_committed = self._remaining.shards_done()

    def _does_all_of(self, first: str, last: str) -> bool:
        """Whether this run does everything that is pending in these shards, in one phase."""
        request = self.request
        start, stop = request.shards or (0, None)
        inside = start <= int(first) and (stop is None or int(last) < stop)
        return inside and request.stages is None and request.limit is None and len(self._report.phases) == 1

    def _committer(self, catalog: Catalog, plan: Plan, breaker: Breaker, metrics: PhaseMetrics) -> Committer:
        return Committer(
            specs=self.specs,
            task_of=lambda shard_id: plan.task(int(shard_id)),
            items_of=lambda shard_id: self._items(catalog, shard_id),
            tables=StageTables(self.store, self.config.embed.dtype),
            journal=Journal(self.store, self.run_id),
            breaker=breaker,
            footer={"run_id": self.run_id, "versions": json.dumps(library_versions())},
            on_row=metrics.row,
        )

    def _items(self, catalog: Catalog, shard_id: str) -> list[CatalogItem]:
        """A shard's live items; counts those that are not."""
        removed = catalog.removed(shard_id)
        self._removed += len(removed)
        return [item for item in catalog.read_shard(shard_id) if item.key not in removed]

    def _why_stop(self) -> str | None:
        lost = "another run may hold the lease of this output" if self.lease.lost.is_set() else None
        return lost or why_own_node_goes()

    def _snapshot(self, title: str, committer: Committer, tasks: Tasks, forecast: RowForecast) -> Snapshot:
        return Snapshot(
            title=title,
            shards_done=committer.committed_shards,
            shards=len(tasks),
            rows=committer.rows,
            expected_rows=forecast.expected_rows(committer.committed),
            failed_rows=committer.failed_rows,
            errors=committer.errors,
            stopping=self.flag.reason,
        )


def new_run_id() -> str:
    """A name that sorts by time and is never given twice."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
