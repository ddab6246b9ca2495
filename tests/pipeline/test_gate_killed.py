"""Kill -9 of what belongs to no stage, the gate and the tasks that read shards: the run goes on as if undisturbed."""

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.gate import GateConfig
from tests.pipeline.drivers import GATE, READER, processes, reaches
from tests.pipeline.light_stages import light_catalog, light_specs
from tests.pipeline.runs import BASE, committed, run_light
from tests.pipeline.wrapped_stages import noted_lines

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("light_ray")]

IDS = [f"clip-{number:02d}" for number in range(40)]


class Killer(threading.Thread):
    """Kills a process with each of some titles, once so many items were read; another thread has the run."""

    def __init__(self, reads: Path, kills: list[tuple[int, str]]) -> None:
        super().__init__(daemon=True)
        self._reads = reads
        self._kills = kills
        self.over = threading.Event()
        self.killed: list[int] = []

    def run(self) -> None:
        for items, title in self._kills:
            reaches(partial(self._kill, items, title), self.over.is_set, str, look_seconds=0.1)

    def _kill(self, items: int, title: str) -> bool:
        if len(noted_lines(self._reads)) < items:
            return False
        for process in processes(title):
            if process.pid not in self.killed:
                process.kill()
                self.killed.append(process.pid)
                return True
        return False


def test_a_run_whose_gate_and_readers_are_killed_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    output, plain, log = tmp_path / "out", tmp_path / "plain", tmp_path / "reads"
    for folder in (output, plain):
        light_catalog(str(folder), IDS, shard_size=4)
    # Two shards are out at a time, so that readers wait at the gate until the end.
    config = replace(BASE, gate=GateConfig(max_rows_out=8, stall_seconds=3600.0))
    killer = Killer(log, [(2, READER), (6, GATE), (14, GATE)])
    killer.start()
    report = run_light(output, light_specs(log, seconds=0.1), config=config)
    killer.over.set()
    killer.join()
    assert len(set(killer.killed)) == 3
    assert (report.stopped, report.items_with_errors, report.shards_committed) == (None, 0, 10)
    assert sorted(set(noted_lines(log))) == [f"{one}\n" for one in IDS]
    run_light(plain, light_specs(tmp_path / "other"))
    assert committed(output, light_specs(log)) == committed(plain, light_specs(log))
