"""Publishing on a real Ray and a real S3 server, and publishers killed by kill -9."""

import random
from functools import partial
from pathlib import Path

import pytest

from pipeline.publish_config import PublishConfig
from pipeline.publish_tasks import run_tasks
from records.errors import ReelscribeError
from storage.releases import Releases
from storage.stores import Store
from tests.pipeline.drivers import Driver, Environment
from tests.pipeline.publishing import SMALL_PARTS, objects, publish
from tests.pipeline.stage_maker import Maker, ids_of, publish_config
from tests.s3 import S3Server

pytestmark = pytest.mark.engine
CONFIG = publish_config(part_bytes=SMALL_PARTS, row_group_rows=10, gallery_items=0)
ITEMS = 80


def filled(uri: str) -> str:
    maker = Maker(store=Store.open(uri))
    maker.fill(maker.list_items(ids_of(ITEMS)))
    return uri


def test_ray_writes_the_same_bytes_as_one_process(light_ray: None, tmp_path: Path) -> None:
    here, there = filled(str(tmp_path / "here")), filled(str(tmp_path / "there"))
    publish(here, "r1", CONFIG)
    published = publish(there, "r1", CONFIG, on_ray=True)
    assert (published.state, published.items) == ("published", ITEMS)
    assert objects(there) == objects(here)


def holds(uri: str, number: int) -> bool:
    return sum(1 for _ in Store.open(uri).list("releases/")) >= number


def work(task: int) -> dict[str, int]:
    if task == 3:
        raise FileNotFoundError(2, "no such object", "stages/caption/c1/00000003.0.parquet")
    if task == 7:
        raise ZeroDivisionError("a mistake in the code")
    return {"square": task * task}


def test_tasks_answer_in_any_order_and_a_failure_is_named(light_ray: None) -> None:
    config = PublishConfig(task_cpus=0.5)
    answers = list(run_tasks(config, [0, 1, 2], work))
    assert sorted(answer["square"] for answer in answers) == [0, 1, 4]
    assert list(run_tasks(config, [], work)) == []
    with pytest.raises(ReelscribeError, match=r"00000003.0.parquet is gone: was it pruned"):
        list(run_tasks(config, [1, 3], work))
    with pytest.raises(ReelscribeError, match=r"a task of the publish died, .*: ZeroDivisionError: a mistake in"):
        list(run_tasks(config, [1, 7], work))


@pytest.mark.chaos
def test_publishers_killed_at_random_moments_on_s3_end_in_the_same_release(
    drivers_ray: Environment, s3_server: S3Server, tmp_path: Path
) -> None:
    bucket = s3_server.bucket()
    uri, peace = filled(f"{bucket}/killed"), filled(f"{bucket}/peace")
    publish(peace, "r1", CONFIG)
    expected = objects(peace)
    releases, moment = Releases(Store.open(uri)), random.Random(5)
    arguments = ["--output", uri, "--release", "r1", "--part-bytes", str(SMALL_PARTS)]
    for objects_there in sorted(moment.sample(range(1, len(expected) - 2), 2)):
        driver = Driver.start("tests.pipeline.publish_job", arguments, drivers_ray, tmp_path / "log")
        driver.reaches(partial(holds, uri, objects_there))
        driver.kill()
        if releases.manifest("r1") is None:
            assert releases.latest() is None
        else:
            assert {"releases/LATEST": b"r1\n", **objects(uri)}.keys() == expected.keys()
    last = Driver.start("tests.pipeline.publish_job", arguments, drivers_ray, tmp_path / "log")
    assert last.wait() == 0, last.said()[-2000:]
    assert objects(uri) == expected
    assert objects(uri, "publishing/") == {}
    assert Store.open(uri).open_uploads("") == []
