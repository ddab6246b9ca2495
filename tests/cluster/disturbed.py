"""Runs of the light graph on clusters that change under them, and what must hold afterwards."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.loop_config import LoopConfig
from tests.again import RecordProperty, record_again
from tests.cluster.job_server import Job
from tests.pipeline.chaos import catalog_ids, narrow_gate
from tests.pipeline.drivers import LIGHT_JOB, Driver, journal_files, light_arguments, light_job
from tests.pipeline.light_stages import light_catalog, light_specs
from tests.pipeline.runs import committed
from tests.pipeline.wrapped_stages import noted_lines

POOLS: Mapping[str, Mapping[str, Any]] = {
    "decode": {"num_cpus": 0.5, "max_actors": 4, "calls": 2},
    "caption": {"num_cpus": 0.25, "num_gpus": 0.5, "max_actors": 4, "calls": 2},
    "transcribe": {"num_cpus": 0.25, "num_gpus": 0.25, "max_actors": 2},
    "embed": {"num_cpus": 0.25, "max_actors": 2},
}

NARROW: Mapping[str, Any] = narrow_gate(48)
"""Settings with which a killed driver costs no more than three shards."""

SHIPPED: Mapping[str, float] = {
    "journal_seconds": LoopConfig().journal_seconds,
    "drain_seconds": LoopConfig().drain_seconds,
}
"""Options of a driver that saves and drains as `jobs.annotate` does where nobody says otherwise."""


@dataclass
class Disturbed:
    """One output and the drivers that run on it one after the other."""

    folder: Path
    record_property: RecordProperty
    """Of the test: what was done again is told when all tests are over."""
    items: int
    seconds: float = 0.1
    """That each row takes in a stage."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    runs: int = 0

    def __post_init__(self) -> None:
        self.output = self.folder / "out"
        settings = {"pools": POOLS, **self.settings}
        light_catalog(str(self.output), catalog_ids(self.items), shard_size=16)
        (self.folder / "settings.json").write_text(json.dumps(settings))

    @property
    def notes(self) -> Path:
        """Of the last run."""
        return self.folder / f"run-{self.runs}"

    def start(self, environment: dict[str, str], **options: object) -> Driver:
        """Starts the next driver; `options` as `tests.pipeline.light_job` takes them."""
        self.runs += 1
        return light_job(self.output, self.notes, environment, **self._options(options))

    def command(self, **options: object) -> str:
        """The next driver's command, to be submitted."""
        self.runs += 1
        arguments = light_arguments(self.output, self.notes, **self._options(options))
        return shlex.join(["python", "-m", LIGHT_JOB, *arguments])

    def _options(self, options: Mapping[str, object]) -> dict[str, object]:
        return {"seconds": self.seconds, "settings": self.folder / "settings.json", **options}

    def done(self, stage: str) -> int:
        """Rows that a stage has done in the last run."""
        return len(noted_lines(self.notes / f"{stage}.done"))

    def works(self, driver: Driver | Job, rows: int) -> None:
        """Waits until the captioner has done so many rows in the last run."""
        assert driver.reaches(lambda: self.done("caption") >= rows), driver.said()[-3000:]

    def nodes_of(self, stage: str) -> list[str]:
        """Nodes on which workers of a stage became ready in the last run, in order."""
        return [line.strip() for line in noted_lines(self.notes / f"{stage}.nodes")]

    def calls_on(self, node: str, what: Literal["begins", "ends"]) -> int:
        """Calls of all stages that began or ended on a node in the last run."""
        return sum(noted_lines(path).count(f"{node} {what}\n") for path in self.notes.glob("*.calls"))

    def check(self, *, kills: int | None = None) -> None:
        """Nothing is lost and nothing is there twice; tells how much was done again.

        Args:
            kills: Drivers that were killed, and nothing else was: each may cost what the gate had let out. None where
                workers went, whose rows may be lost more than once.
        """
        done = {"decode": self._all_lines("reads"), "caption": self._all_lines("caption.done")}
        record_again(self.record_property, self.runs, done)
        tables = committed(self.output, light_specs(Path()))  # it fails where a line is there twice
        ids = set(catalog_ids(self.items))
        for stage, results in tables.items():
            failed = {one for one, line in results.items() if line["type"] == "Failure"}
            assert set(results) == ids, stage
            assert failed == (set() if stage == "embed" else {"missing-first", "missing-last"}), stage
        assert set(tables) == {"decode", "caption", "transcribe", "embed"}
        assert journal_files(self.output) == []
        if kills is not None:
            most = kills * self.settings["gate"]["max_rows_out"]
            for stage, lines in done.items():
                rows = [line for line in lines if not line.startswith("missing")]  # what fails is taken over by nobody
                assert len(rows) - len(set(rows)) <= most, stage

    def _all_lines(self, note: str) -> list[str]:
        """Of a note, over all runs."""
        return [line for run in range(1, self.runs + 1) for line in noted_lines(self.folder / f"run-{run}" / note)]
