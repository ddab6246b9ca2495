"""What a worker of texts sends: one buffer, however many calls have made the table."""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from ray import cloudpickle
from ray.util import deregister_serializer

from pipeline.spec import StageSpec
from pipeline.worker import StageWorker
from records.flow import FlowRow, flow_table
from records.items import CatalogItem
from tests.pipeline.light_stages import LightEmbed

dumps: Callable[..., bytes] = cloudpickle.dumps
"""Ray's own, which knows what was registered; what reads needs nothing."""


def lines(count: int) -> pa.Table:
    item = CatalogItem(video_id="a", version=1, uri="s3://b/a.mp4", size_bytes=0, etag="")
    return flow_table([FlowRow(shard_id="0", position=n, issued_rows=count, item=item) for n in range(count)])


@pytest.fixture
def sends_as_a_worker_of_texts_does() -> Iterator[None]:
    StageWorker(StageSpec(name="embed", fingerprint="f", build=LightEmbed))
    yield
    deregister_serializer(pa.Table)


@pytest.mark.usefixtures("sends_as_a_worker_of_texts_does")
def test_a_table_of_many_calls_is_one_buffer_and_comes_back_as_it_was() -> None:
    table = pa.concat_tables([lines(8) for _ in range(5)])
    buffers: list[Any] = []
    sent = dumps(table, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 1
    assert pickle.loads(sent, buffers=buffers).equals(table)


@pytest.mark.usefixtures("sends_as_a_worker_of_texts_does")
def test_a_slice_is_sent_without_the_rest_of_its_table() -> None:
    table = lines(4096)
    part = dumps(table.slice(2000, 8), protocol=5)
    assert pickle.loads(part).equals(table.slice(2000, 8))
    assert len(part) < len(dumps(table, protocol=5)) / 10
