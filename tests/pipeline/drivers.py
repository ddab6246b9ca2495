"""Drivers as processes of their own: started, watched through what they write, signalled and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.stores import Store
from tests.pipeline.ray_host import ROOT
from tests.storage.journal_rows import read_journals

PATIENCE_SECONDS = 500.0
"""How long a test waits for what must come before it says that it did not."""

LIGHT_JOB = "tests.pipeline.light_job"

Environment = dict[str, str]


@dataclass(slots=True)
class Driver:
    """A running command; its log goes to a file."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls, module: str, arguments: Sequence[str], environment: Environment, log: Path, *, own_group: bool = False
    ) -> "Driver":
        """Starts `python -m module`; its standard output and error go to `log`."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=file,
                process_group=0 if own_group else None,
            )
        return cls(process, log)

    def kill(self) -> None:
        """SIGKILL, as a machine that goes down."""
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        os.kill(self.process.pid, number)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE_SECONDS)

    def reaches(self, condition: Callable[[], bool], look_seconds: float = 0.005) -> bool:
        """Waits until the condition holds, and looks so often; False where the command ended before."""
        return reaches(condition, lambda: self.process.poll() is not None, self.said, look_seconds=look_seconds)

    def said(self) -> str:
        """All that it and those before it with the same log have said."""
        return self.log.read_text()


def reaches(
    condition: Callable[[], bool], ended: Callable[[], bool], said: Callable[[], str], *, look_seconds: float
) -> bool:
    """Waits until the condition holds, and looks so often; False where the command ended before."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if ended():
            return condition()
        assert time.monotonic() < until, f"nothing came: {said()[-2000:]}"
        time.sleep(look_seconds)
    return True


def light_arguments(output: str | Path, notes: Path, **options: object) -> list[str]:
    """Arguments of `tests.pipeline.light_job`, which says what the options are."""
    notes.mkdir(parents=True, exist_ok=True)
    arguments = ["--output", str(output), "--notes", str(notes)]
    for name, value in options.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    return arguments


def light_job(output: str | Path, notes: Path, environment: Environment, **options: object) -> Driver:
    """Starts the light graph on an output."""
    return Driver.start(LIGHT_JOB, light_arguments(output, notes, **options), environment, notes / "log")


def run_light_job(output: str | Path, notes: Path, environment: Environment, **options: object) -> dict[str, Any]:
    """Runs the light graph to its end and returns the report."""
    driver = light_job(output, notes, environment, **options)
    code = driver.wait()
    assert code == 0, f"exit code {code}: {driver.said()[-2000:]}"
    return last_report(output)


def last_report(output: str | Path) -> dict[str, Any]:
    """`report.json` of the newest run that wrote one."""
    store = Store.open(str(output))
    paths = [f"runs/{run_id}/report.json" for run_id in store.folders("runs/")]
    newest = max(path for path in paths if next(store.list(path), None) is not None)
    report: dict[str, Any] = json.loads(store.read_bytes(newest))
    return report


def journal_files(output: Path) -> list[Path]:
    """Every journal file there is."""
    return sorted((output / "runs").glob("*/journal/*.parquet"))


def journalled_ids(output: str | Path) -> set[str]:
    """Items that some journal holds and a later run takes over: not those that failed."""
    return {row.video_id for row in read_journals(Store.open(str(output))) if not row.failed}


def lease_record(output: Path) -> dict[str, Any]:
    """What the lease says now; empty where there is none."""
    path = output / "leases" / "lease.json"
    record: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return record
