"""A real run whose captioners have less to do than there are of them: some go in its midst, and nothing runs twice."""

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import ray

from tests.pipeline.light_stages import POOL, light_catalog, light_specs
from tests.pipeline.runs import BASE, committed, run_light
from tests.pipeline.wrapped_stages import build_slow_while, noted, noted_lines, worker_pids

ROWS = 400


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_workers_without_work_free_their_gpus_while_the_input_lasts(tmp_path: Path, light_ray: None) -> None:
    slow, notes = tmp_path / "slow", tmp_path / "notes"
    slow.touch()
    ids = [f"v{number:03d}" for number in range(ROWS)]
    light_catalog(str(tmp_path / "out"), ids, shard_size=16)
    specs = dict(light_specs(tmp_path / "reads"))
    decode, pool = specs["decode"], replace(POOL, num_gpus=0.3, max_actors=3, calls=2)
    specs["decode"] = replace(
        decode, build=partial(build_slow_while, decode.build, slow, 0.5), pool=replace(POOL, max_actors=1)
    )
    specs["caption"] = replace(specs["caption"], pool=pool)
    over, free = threading.Event(), list[float]()

    def watch() -> None:
        while not over.wait(0.2):
            free.append(ray.available_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
            if min(free) < 0.15 and free[-1] > 0.65:
                slow.unlink(missing_ok=True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run_light(
            tmp_path / "out", noted(specs, notes), config=replace(BASE, graph=replace(BASE.graph, shrink_seconds=5))
        )
    finally:
        over.set()
        watcher.join()
    assert not slow.exists(), "two of three went while the decoder still had most of its rows to do"
    assert len(worker_pids(notes, "caption")) == 3, "none had to come again"
    assert sorted(noted_lines(notes / "caption.done")) == [f"{one}\n" for one in ids]
    tables = committed(tmp_path / "out", specs)
    assert {stage: set(lines) for stage, lines in tables.items()} == {stage: set(ids) for stage in specs}
