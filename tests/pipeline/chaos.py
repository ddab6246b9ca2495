"""Drivers killed one after the other on one output, and what must hold after each kill."""

import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.again import RecordProperty, record_again
from tests.pipeline.drivers import (
    Driver,
    Environment,
    journal_files,
    journalled_ids,
    lease_record,
    light_job,
    run_light_job,
)
from tests.pipeline.light_stages import light_catalog, light_specs
from tests.pipeline.runs import committed, items_in_catalog, same_tables, stage_files
from tests.pipeline.wrapped_stages import noted_lines

logger = logging.getLogger(__name__)

SECONDS_A_ROW = 0.08
SHARDS_OUT = 3
"""That the gate lets out: what they hold is the most that a kill may cost."""
NEVER = 3600.0
"""So long the gate waits for a driver that says nothing before it lets more out."""
STAGES = 4
MEDIA_STAGES = ("decode", "caption", "transcribe")

Moment = Literal["start", "running", "journalling", "committing", "end"]


def catalog_ids(items: int) -> list[str]:
    """Ids of a catalog, two of which are not there to be read: one in its first shard and one in its last."""
    return ["missing-first", *(f"clip-{number:03d}" for number in range(items - 2)), "missing-last"]


def readable(lines: Iterable[str]) -> set[str]:
    """The ids of a note that are there to be read. What fails is taken over by nobody and runs again in every run."""
    return {line.strip() for line in lines if not line.startswith("missing")}


def done_for_good(output: Path) -> tuple[set[str], set[str]]:
    """Items that no later run may read: those in journals, and those whose media stages are all committed."""
    tables = committed(output, light_specs(Path()))
    stages = [set(tables.get(stage, {})) for stage in MEDIA_STAGES]
    return journalled_ids(output), set.intersection(*stages)


def narrow_gate(rows: int) -> dict[str, Any]:
    """Settings of `tests.pipeline.light_job`: no more rows are under way, however slow the machine is."""
    return {"gate": {"max_rows_out": rows, "stall_seconds": NEVER}}


def undisturbed_output(folder: Path, items: int, shard_size: int, environment: Environment) -> Path:
    """An output that one run made in peace."""
    output = folder / "out"
    light_catalog(str(output), catalog_ids(items), shard_size=shard_size)
    report = run_light_job(output, folder / "notes", environment)
    assert (report["items_run"], report["items_with_errors"]) == (items, 2)
    return output


@dataclass
class Series:
    """One output, and the runs that are killed on it.

    Args:
        folder: Where the output and the notes of its runs are made.
        items: Number of items, in shards of `shard_size`.
        environment: Names the Ray that the runs share.
        seed: Of the moments.
        record_property: Of the test: what was done again is told when all tests are over.
    """

    folder: Path
    items: int
    shard_size: int
    environment: Environment
    seed: int
    record_property: RecordProperty
    runs: int = 0
    journalled: int = 0
    """Items that a killed run had journalled and the next took over, summed over the kills."""
    reads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.output = self.folder / "out"
        self._random = random.Random(self.seed)
        self._rows_out = SHARDS_OUT * self.shard_size
        self._settings = self.folder / "settings.json"
        light_catalog(str(self.output), catalog_ids(self.items), shard_size=self.shard_size)
        self._settings.write_text(json.dumps(narrow_gate(self._rows_out)))

    def kill_at(self, moment: Moment) -> None:
        """Starts a run, kills its driver at such a moment and checks what it left."""
        before = stage_files(self.output)
        driver, notes = self._start()
        delay_seconds = self._random.uniform(0.0, {"start": 4.0, "running": 1.0}.get(moment, 0.01))
        reached = driver.reaches(self._condition(moment, notes))
        assert reached, f"the run ended before it could be killed: {driver.said()[-2000:]}"
        time.sleep(delay_seconds)  # only scatters the kills: nothing waits for it
        driver.kill()
        after = stage_files(self.output)
        logger.info(
            "kill %d at %s: %d stage files, %d rows in journals",
            self.runs, moment, len(after), len(journalled_ids(self.output)),
        )  # fmt: skip
        assert {name: after[name] for name in before} == before
        journalled, stored = done_for_good(self.output)
        lost = readable(noted_lines(notes / "reads")) - journalled - stored
        assert len(lost) <= self._rows_out, "more was under way than the gate lets out"

    def finish(self, disturb: Callable[[Driver, Path], None] = lambda driver, notes: None) -> None:
        """A last run, to its end."""
        before = stage_files(self.output)
        driver, notes = self._start()
        disturb(driver, notes)
        assert driver.wait() == 0, driver.said()[-2000:]
        after = stage_files(self.output)
        assert {name: after[name] for name in before} == before
        self._note_reads(notes)

    def check(self, undisturbed: Path) -> None:
        """Holds the tables against those of an undisturbed run and tells how much was done again."""
        record_again(self.record_property, self.runs, {"decode": self.reads})
        logger.info("seed %d: %d rows taken from journals", self.seed, self.journalled)
        specs = light_specs(Path())
        tables, expected = committed(self.output, specs), committed(undisturbed, specs)
        same_tables(tables, expected)
        for stage, lines in tables.items():
            failed = {one for one, line in lines.items() if line["type"] == "Failure"}
            assert len(lines) == items_in_catalog(self.output) == self.items
            assert failed == (set() if stage == "embed" else {"missing-first", "missing-last"})
        assert set(self.reads) == set(catalog_ids(self.items))
        assert journal_files(self.output) == []

    def _start(self) -> tuple[Driver, Path]:
        """Starts the next run, once what the last one read has been held against what it should have read."""
        if self.runs:
            self._note_reads(self._notes())
        self._settled = done_for_good(self.output)
        self.runs += 1
        driver = light_job(self.output, self._notes(), self.environment, seconds=SECONDS_A_ROW, settings=self._settings)
        return driver, self._notes()

    def _notes(self) -> Path:
        return self.folder / f"run-{self.runs}"

    def _note_reads(self, notes: Path) -> None:
        reads = [line.strip() for line in noted_lines(notes / "reads")]
        journalled, stored = self._settled
        assert not journalled & set(reads), "what a journal holds ran again"
        assert not stored & set(reads), "what is committed ran again"
        self.journalled += len(journalled - stored)
        self.reads += reads

    def _condition(self, moment: Moment, notes: Path) -> Callable[[], bool]:
        run_before = lease_record(self.output).get("run_id")
        journals_before, files_before = set(journal_files(self.output)), len(stage_files(self.output))
        # The first new journal is what was taken over from the last run; the next has rows of this one.
        journals = 2 if journals_before else 1
        rows, files = self._random.randint(1, 3 * self.shard_size), self._random.randint(1, STAGES - 1)
        all_files = STAGES * -(-self.items // self.shard_size)
        conditions: dict[Moment, Callable[[], bool]] = {
            "start": lambda: lease_record(self.output).get("run_id") != run_before,
            "running": lambda: len(noted_lines(notes / "reads")) >= rows,
            # On a busy machine a shard may be committed before its rows are journalled.
            "journalling": lambda: (
                len(set(journal_files(self.output)) - journals_before) >= journals
                or self._count_stage_files() > files_before
            ),
            "committing": lambda: self._count_stage_files() >= files_before + files,
            "end": lambda: self._count_stage_files() >= min(max(all_files - STAGES, files_before) + 1, all_files),
        }
        return conditions[moment]

    def _count_stage_files(self) -> int:
        return sum(1 for _ in (self.output / "stages").glob("*/*/*.parquet"))


def moments(seed: int, each: int) -> Sequence[Moment]:
    """So many of every moment, shuffled; the end comes last."""
    early: list[Moment] = ["start", "running", "journalling", "committing"]
    shuffled = early * each
    random.Random(seed).shuffle(shuffled)
    late: list[Moment] = ["end"] * each
    return [*shuffled, *late]
