"""One publish, from stage tables to a release: plan, items, gates, vectors, report, manifest, pointer.

Each step can be killed at any moment: before the manifest nobody sees a release, after it the release is whole, and the
same command goes on. docs/releases.md says what each step leaves.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa
from threadpoolctl import threadpool_limits

from pipeline.ahead import ahead
from pipeline.config import RunConfig
from pipeline.graph import GraphConfig
from pipeline.publish_config import PublishConfig
from pipeline.publish_evidence import Previous, evidence_of, load_previous
from pipeline.publish_manifest import make_manifest
from pipeline.publish_parts import PartDone, PartNotes, PartWriter, one_dimension, part_notes_path
from pipeline.publish_plan import PublishPlan, make_publish_plan
from pipeline.publish_tasks import TaskRunner, ray_tasks
from pipeline.publish_whole import WholeObjects
from pipeline.quality_gates import Evidence, GateResult, failed, judge
from pipeline.quality_stats import ReleaseStatistics
from pipeline.ray_session import LocalRayConfig
from pipeline.release_report import ReportInput, render_report
from pipeline.spec import Specs
from records.errors import UserError
from records.releases import ReleaseFile, checked_name
from storage.catalog import Catalog
from storage.leases import Lease
from storage.releases import Releases, release_path
from storage.stage_tables import StageTables
from storage.stores import Store
from storage.tables import encode_table

logger = logging.getLogger(__name__)

NOTES_AHEAD = 4

State = Literal["published", "unchanged", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How a publish ended."""

    state: State
    """`unchanged`: the release was there already; `refused`: a gate failed."""
    release: str
    latest_moved: bool
    report_uri: str
    items: int = 0
    results: Sequence[GateResult] = ()
    """Every gate; empty where nothing was judged."""

    @property
    def failures(self) -> list[GateResult]:
        """The gates that failed."""
        return failed(list(self.results))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathered:
    """What the parts' notes say together."""

    done: Sequence[PartDone]
    statistics: ReleaseStatistics
    sample: pa.Table
    """With `shard_id`."""

    @property
    def rows(self) -> int:
        return self.statistics.rows

    @property
    def dimension(self) -> int:
        return one_dimension(part.dimension for part in self.done)


@dataclass(slots=True, kw_only=True)
class Publish:
    """One publish, under the publishers' lease."""

    name: str
    config: RunConfig
    specs: Specs
    store: Store
    output_uri: str
    lease: Lease
    run_id: str
    allow_partial: bool = False
    open_tasks: Callable[[LocalRayConfig, GraphConfig, PublishConfig], AbstractContextManager[TaskRunner]] = ray_tasks
    """Where tasks run; a test may run them here."""
    _releases: Releases = field(init=False)
    _catalog: Catalog = field(init=False)
    _plan: PublishPlan = field(init=False)

    def execute(self) -> Published:
        """Does what is left to do.

        Raises:
            UserError: Shards are unfinished, or another content has this name.
            BusyError: Another publish took over.
            ReelscribeError: A stage file is damaged, or a task kept dying.
        """
        checked_name(self.name)
        self._releases = Releases(self.store)
        catalog = Catalog.open(self.store)
        if catalog is None:
            raise UserError(f"{self.store.root} has no catalog: run jobs.annotate first")
        self._catalog = catalog
        self._plan = make_publish_plan(
            catalog, StageTables(self.store), self.specs, self.config.publish, allow_partial=self.allow_partial
        )
        there = self._releases.manifest(self.name)
        if there is not None:
            if there.content != self._plan.content:
                raise UserError(
                    f"release {self.name} is there already and holds something else: choose another name "
                    "(a release never changes)"
                )
            self._releases.check_whole(there)
            return self._point("unchanged", there.counts["items"], ())
        self.lease.check()
        self._releases.clear(self.name, keep_work=self._plan.work)
        self._releases.begin_work(self.name, self._plan.work)
        config = self.config
        with self.open_tasks(config.local_ray, config.graph, config.publish) as run:
            return self._make(run)

    def _make(self, run: TaskRunner) -> Published:
        previous = load_previous(self._releases)
        gathered = self._items(run)
        with threadpool_limits(limits=1, user_api="blas"):  # sums over threads round otherwise: the report's bytes too
            evidence = evidence_of(gathered.statistics, gathered.sample, previous, self.config)
            results = judge(evidence, self.config.publish.gates)
            report = self._report(gathered, evidence, results, previous)
        self.lease.check()
        if failed(results):
            path = f"runs/{self.run_id}/report.html"
            self.store.create(path, report)
            return Published(
                state="refused",
                release=self.name,
                latest_moved=False,
                report_uri=self.store.uri(path),
                items=gathered.rows,
                results=results,
            )
        whole = WholeObjects(
            store=self.store,
            output_uri=self.output_uri,
            release=self.name,
            dtype=self.config.embed.dtype,
            config=self.config.publish,
            still_ours=self.lease.check,
        )
        files = whole.write(gathered.done, gathered.dimension, run)
        sample = encode_table(gathered.sample.drop_columns(["shard_id"]))
        self.lease.check()  # what is written over may be another's, and finished
        small = {"report.html": (report, 0), "sample.parquet": (sample, len(gathered.sample))}
        self._releases.write_over([(release_path(self.name, path), data) for path, (data, _) in small.items()])
        files += [ReleaseFile(path=path, size_bytes=len(data), rows=rows) for path, (data, rows) in small.items()]
        self._commit(gathered, results, previous, files)
        return self._point("published", gathered.rows, results)

    def _items(self, run: TaskRunner) -> _Gathered:
        """The items files, and what was counted of them."""
        writer = PartWriter(
            output_uri=self.output_uri,
            release=self.name,
            work=self._plan.work,
            catalog_revision=self._catalog.revision,
            fingerprints={name: spec.fingerprint for name, spec in self.specs.items()},
            vector_dtype=self.config.embed.dtype,
            sample_below=self._plan.sample_below,
            config=self.config.publish,
        )
        for count, _ in enumerate(run(list(self._plan.tasks()), writer), start=1):
            self.lease.check()
            logger.info("release=%s items files: %d of %d", self.name, count, self._plan.parts)
        done: list[PartDone] = []
        statistics, samples = ReleaseStatistics(), []
        paths = [part_notes_path(self.name, self._plan.work, number) for number in range(self._plan.parts)]
        for notes in ahead(lambda path: PartNotes.read(self.store, path), paths, depth=NOTES_AHEAD):
            done.append(notes.done)
            one_dimension(part.dimension for part in done)
            statistics = statistics.merged(notes.statistics)
            samples.append(notes.sample)
        if not statistics.rows:
            raise UserError(f"{self.store.root}: every item was deleted or superseded, there is nothing to release")
        return _Gathered(done=done, statistics=statistics, sample=pa.concat_tables(samples).combine_chunks())

    def _report(
        self, gathered: _Gathered, evidence: Evidence, results: list[GateResult], previous: Previous | None
    ) -> bytes:
        return render_report(
            ReportInput(
                release=self.name,
                source=self._catalog.source,
                previous=previous.manifest.release if previous is not None else "",
                fingerprints={name: spec.fingerprint for name, spec in self.specs.items()},
                models={name: spec.footer.get("model", "") for name, spec in self.specs.items()},
                left_out=self._plan.left_out,
                evidence=evidence,
                results=results,
                sample=gathered.sample,
                catalog=self._catalog,
                config=self.config,
            )
        )

    def _commit(
        self,
        gathered: _Gathered,
        results: Sequence[GateResult],
        previous: Previous | None,
        files: Sequence[ReleaseFile],
    ) -> None:
        """The manifest, once everything that it names is there and nothing else is."""
        ordered = sorted(files, key=lambda file: PurePosixPath(file.path).parts)
        self.lease.check()
        self._releases.abort_uploads(self.name)
        self._releases.remove_others(self.name, {file.path: file.size_bytes for file in ordered})
        self.lease.check()
        manifest = make_manifest(
            release=self.name,
            plan=self._plan,
            catalog=self._catalog,
            config=self.config,
            specs=self.specs,
            statistics=gathered.statistics,
            dimension=gathered.dimension,
            results=results,
            previous=previous.manifest.release if previous is not None else "",
            files=ordered,
        )
        self._releases.commit(manifest)

    def _point(self, state: State, items: int, results: Sequence[GateResult]) -> Published:
        self.lease.check()
        moved = self._releases.point_latest(self.name)
        self._releases.forget_work(self.name)
        return Published(
            state=state,
            release=self.name,
            latest_moved=moved,
            report_uri=self.store.uri(release_path(self.name, "report.html")),
            items=items,
            results=results,
        )
