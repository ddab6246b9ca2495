"""The task that reads several shards: side by side, in their order, and without the one that cannot be read."""

import pickle
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from pipeline.plan import NONE, ShardTask
from pipeline.reader import ShardReader
from records.flow import FlowRow, flow_rows
from records.items import CatalogItem
from storage.stores import StoreConfig


@dataclass
class Remote:
    """What `gate.method.remote(…)` does, at once."""

    answer: object
    asked: list[tuple[object, ...]] = field(default_factory=list)

    def remote(self, *arguments: object) -> object:
        self.asked.append(arguments)
        return self.answer


@dataclass
class OpenGate:
    """Lets everything in."""

    admit: Remote = field(default_factory=lambda: Remote(True))
    cannot_read: Remote = field(default_factory=lambda: Remote(None))


def task(shard_id: str) -> ShardTask:
    return ShardTask(shard_id=shard_id, targets={}, existing={}, metadata_generation=NONE)


def test_shards_of_one_task_are_read_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3)

    def lines(reader: ShardReader, of: ShardTask) -> list[FlowRow]:
        together.wait(timeout=10)
        if of.shard_id == "b":
            raise OSError("its store is away")
        item = CatalogItem(video_id=f"of {of.shard_id}", version=1, uri="u", size_bytes=1, etag="")
        return [FlowRow(shard_id=of.shard_id, position=0, issued_rows=1, item=item)]

    monkeypatch.setattr(ShardReader, "lines", lines)
    monkeypatch.setattr("pipeline.reader.ray.get", lambda answer: answer)
    gate = OpenGate()
    reader = ShardReader(output_uri="o", specs={}, catalog_revision=1, gate=gate, store=StoreConfig())
    found = flow_rows(reader({"tasks": [pickle.dumps([task(name) for name in "cba"])]}))
    assert [(row.shard_id, row.item.video_id) for row in found] == [("c", ""), ("c", "of c"), ("a", ""), ("a", "of a")]
    (counts,) = gate.admit.asked[0]
    assert isinstance(counts, Mapping)
    assert dict(counts) == {"c": 1, "a": 1}
    assert [asked[0] for asked in gate.cannot_read.asked] == ["b"]
