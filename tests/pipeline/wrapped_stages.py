"""Stages that leave notes of what they do, or fail as a test wants; wrapped around the builders of any graph.

Notes are files in a folder, since the stages run in other processes.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray

from pipeline.spec import Specs, StageSpec
from records.errors import FatalError
from records.items import Row


@dataclass
class Noted:
    """A stage that writes down each row it has done, and each call that begins and ends, with its node."""

    stage: Any
    done: Path
    calls: Path
    node: str

    def __call__(self, rows: Sequence[Row], *wants: Sequence[bool]) -> Any:  # noqa: ANN401 - what the stage returns
        self._note("begins")
        outcomes = self.stage(rows, *wants)
        with self.done.open("a") as file:
            file.writelines(f"{row.item.video_id}\n" for row in rows)
        self._note("ends")
        return outcomes

    def close(self) -> None:
        self.stage.close()

    def _note(self, what: str) -> None:
        with self.calls.open("a") as file:
            file.write(f"{self.node} {what}\n")


def noted(specs: Specs, folder: Path) -> dict[str, StageSpec]:
    """The graph, with the process of each worker and each row done noted in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: replace(spec, build=partial(_build_noted, folder, name, spec.build)) for name, spec in specs.items()}


def _build_noted(folder: Path, name: str, build: Callable[[], Any]) -> Noted:
    stage = build()
    with (folder / f"{name}.pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    node = str(ray.get_runtime_context().get_node_id())
    with (folder / f"{name}.nodes").open("a") as file:
        file.write(f"{node}\n")
    return Noted(stage, folder / f"{name}.done", folder / f"{name}.calls", node)


def noted_lines(path: Path) -> list[str]:
    """The whole lines of a note; none where it is not written yet."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []


def worker_pids(folder: Path, stage: str) -> list[int]:
    """The processes that built a stage, in order; one that rebuilt it is there again."""
    return [int(line) for line in noted_lines(folder / f"{stage}.pids")]


@dataclass
class DyingEngine:
    """A stage whose engine is dead on its first calls, counted over all its workers."""

    stage: Any
    deaths: Path
    times: int

    def __call__(self, rows: Sequence[Row]) -> Any:  # noqa: ANN401 - what the stage returns
        if len(noted_lines(self.deaths)) < self.times:
            with self.deaths.open("a") as file:
                file.write(f"{os.getpid()}\n")
            raise FatalError("the engine is gone")
        return self.stage(rows)

    def close(self) -> None:
        self.stage.close()


def build_dying(build: Callable[[], Any], deaths: Path, times: int) -> DyingEngine:
    """For a spec's `build`."""
    return DyingEngine(build(), deaths, times)


def build_once(build: Callable[[], Any], deaths: Path) -> DyingEngine:
    """For a spec's `build`: an engine that dies once, and that the process in which it died can never build again."""
    if f"{os.getpid()}\n" in noted_lines(deaths):
        raise FatalError("the GPU has fallen off the bus")
    return build_dying(build, deaths, 1)


@dataclass
class Choking:
    """A stage that raises over any batch with a certain item in it."""

    stage: Any
    video_id: str

    def __call__(self, rows: Sequence[Row], *wants: Sequence[bool]) -> Any:  # noqa: ANN401 - what the stage returns
        if any(row.item.video_id == self.video_id for row in rows):
            raise RuntimeError("shapes do not fit\nand a second line")
        return self.stage(rows, *wants)

    def close(self) -> None:
        self.stage.close()


def build_choking(build: Callable[[], Any], video_id: str) -> Choking:
    """For a spec's `build`."""
    return Choking(build(), video_id)


def build_slowly(build: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401 - what the builder returns
    """For a spec's `build`: a model that takes its time to load."""
    time.sleep(seconds)
    return build()


def build_after(build: Callable[[], Any], failures: Path, times: int, seconds: float) -> Any:  # noqa: ANN401 - as above
    """For a spec's `build`: the first workers of all cannot build it, and those after them take twice their time."""
    for number in range(times):
        with contextlib.suppress(FileExistsError):
            failures.with_suffix(f".{number}").touch(exist_ok=False)
            time.sleep(seconds)
            raise OSError("429: too many requests")
    return build_slowly(build, 2 * seconds)


@dataclass
class SlowWhile:
    """A stage that takes its time for each row while a file is there."""

    stage: Any
    file: Path
    seconds: float

    def __call__(self, rows: Sequence[Row], *wants: Sequence[bool]) -> Any:  # noqa: ANN401 - what the stage returns
        for _ in rows:
            time.sleep(self.seconds if self.file.exists() else 0.0)
        return self.stage(rows, *wants)

    def close(self) -> None:
        self.stage.close()


def build_slow_while(build: Callable[[], Any], file: Path, seconds: float) -> SlowWhile:
    """For a spec's `build`."""
    return SlowWhile(build(), file, seconds)


def wait_for_ever() -> None:
    """Does not return; its name is in the stack."""
    threading.Event().wait()


@dataclass
class Hanging:
    """A stage whose calls never return."""

    stage: Any

    def __call__(self, rows: Sequence[Row], *wants: Sequence[bool]) -> Any:  # noqa: ANN401 - it returns nothing
        wait_for_ever()

    def close(self) -> None:
        self.stage.close()


def build_hanging(build: Callable[[], Any]) -> Hanging:
    """For a spec's `build`."""
    return Hanging(build())


def build_never(build: Callable[[], Any]) -> Any:  # noqa: ANN401 - it builds nothing
    """For a spec's `build`: a model that loads and loads."""
    wait_for_ever()


def cannot_build() -> Any:  # noqa: ANN401 - for a spec's `build`
    """For a spec's `build`: no worker of this stage ever starts."""
    raise RuntimeError("the weights do not fit this model\nand a second line")
