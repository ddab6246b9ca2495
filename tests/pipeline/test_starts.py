"""When a stage counts as one that cannot start: some workers failed, and so did those that loaded meanwhile."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.watchdog import Starts
from tests.pipeline.light_stages import LightCaption, light_catalog, light_specs
from tests.pipeline.runs import committed, run_light
from tests.pipeline.test_watchdog import worker
from tests.pipeline.wrapped_stages import build_after, build_slowly, noted, worker_pids


def test_a_stage_is_given_up_once_all_have_failed_that_loaded_when_enough_had() -> None:
    starts, errors = Starts(tries=2), ["OSError: 429", "OSError: no such model"]
    loading = [worker("caption", name="slow", phase="loads"), worker("caption", name="later", phase="queues")]
    others = [worker("decode"), worker("decode", name="second", phase="loads")]
    assert starts.given_up({"caption": errors[:1]}, others) is None
    assert starts.given_up({"caption": errors}, [*others, *loading]) is None
    assert starts.given_up({"caption": errors}, [*others, loading[0]]) is None
    replacement = worker("caption", name="replacement", phase="loads")
    assert starts.given_up({"caption": errors}, [*others, replacement]) == (
        "caption cannot start, tried 2 times: OSError: no such model"
    )


def test_each_new_reason_is_said_once() -> None:
    starts = Starts(tries=2)
    assert starts.news({}) == []
    assert starts.news({"caption": "OSError: 429"}) == ["a worker of caption could not start: OSError: 429"]
    assert starts.news({"caption": "OSError: 429", "embed": "gone"}) == ["a worker of embed could not start: gone"]
    assert starts.news({"caption": "RuntimeError: no GPU", "embed": "gone"}) == [
        "a worker of caption could not start: RuntimeError: no GPU"
    ]


def test_a_worker_that_is_ready_takes_back_what_was_waited_for() -> None:
    starts, errors = Starts(tries=1), {"caption": ["OSError: 429"]}
    first, second = (worker("caption", name=name, phase="loads") for name in ("first", "second"))
    assert starts.given_up(errors, [first]) is None
    assert starts.given_up({}, [worker("caption", name="first")]) is None
    assert starts.given_up(errors, [second]) is None
    assert starts.given_up(errors, []) is not None


@pytest.mark.engine
@pytest.mark.chaos
@pytest.mark.usefixtures("light_ray")
def test_workers_that_fail_to_start_end_no_run_while_another_loads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As where one node is broken, or a hub refuses some of many downloads."""
    ids = [f"clip-{number:02d}" for number in range(12)]
    light_catalog(str(tmp_path / "out"), ids, shard_size=4)
    specs = dict(light_specs(tmp_path / "reads", stages=("decode", "caption")))
    caption = specs["caption"]
    build = partial(build_after, caption.build, tmp_path / "failed", 2, 6.0)
    specs["caption"] = replace(caption, build=build, pool=replace(caption.pool, min_actors=3, max_actors=3))
    report = run_light(tmp_path / "out", specs)
    assert (report.stopped, report.items_run, report.items_with_errors) == (None, len(ids), 0)
    assert len(list(tmp_path.glob("failed.*"))) == 2
    assert caplog.text.count("a worker of caption could not start: OSError: 429") == 1


@pytest.mark.engine
@pytest.mark.chaos
@pytest.mark.usefixtures("light_ray")
def test_a_fast_pool_leaves_its_place_to_engines_that_start_slowly(tmp_path: Path) -> None:
    """On one node with four CPUs decoders could take all of them while the engines load, one after the other.

    Captioning takes so long that the second engine is there before the first has done all rows.
    """
    ids = [f"clip-{number:03d}" for number in range(200)]
    light_catalog(str(tmp_path / "out"), ids, shard_size=50)
    specs = dict(light_specs(tmp_path / "reads", seconds=0.02, stages=("decode", "caption")))
    decode, caption = specs["decode"], specs["caption"]
    specs["decode"] = replace(decode, pool=replace(decode.pool, num_cpus=0.5, max_actors=64))
    pool = replace(caption.pool, num_cpus=1.0, num_gpus=0.5, min_actors=1, max_actors=2)
    build = partial(build_slowly, partial(LightCaption, seconds=0.2), 10.0)
    specs["caption"] = replace(caption, build=build, pool=pool)
    report = run_light(tmp_path / "out", noted(specs, tmp_path / "notes"))
    assert (report.stopped, report.items_run, report.items_with_errors) == (None, len(ids), 0)
    assert len(worker_pids(tmp_path / "notes", "caption")) == 2, "both had a place, and none was let go"
    assert set(committed(tmp_path / "out", specs)["caption"]) == set(ids)
