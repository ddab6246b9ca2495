"""What a killed run leaves in its journal, and a committer that takes it over: for the benchmark of restarts."""

import numpy as np

from pipeline.adopt import PendingShards, adopt_journals
from pipeline.breaker import Breaker, BreakerConfig
from pipeline.committer import Committer
from pipeline.plan import Plan
from pipeline.spec import StageSpec
from records.outcomes import Embedding, View
from records.schemas import JournalRow
from storage.journals import Journal
from storage.stage_tables import StageTables
from storage.stores import Store


def journal_halves(uri: str, shards: range, rows_a_shard: int) -> None:
    """Writes the first rows of some shards, `embed` done, in files as large as the driver's."""
    vectors = np.random.default_rng(1).standard_normal((4, 1024)).astype(np.float32)
    views = [View(document="a person walks along the beach", vector=vector, chunks=1) for vector in vectors]
    embedding = Embedding(video=views[0], audio=views[1], metadata=views[2], all=views[3])
    journal, rows = Journal(Store.open(uri), "20260101T000000-killed"), list[JournalRow]()
    for shard in shards:
        for n in range(rows_a_shard):
            row = JournalRow(
                shard_id=f"{shard:08d}", position=n, video_id=f"{n:06d}", version=1,
                fingerprints={"embed": "other"}, generations={"embed": 0}, outcomes={"embed": embedding},
            )  # fmt: skip
            rows.append(row)
        if len(rows) >= 4096 or shard == shards[-1]:
            journal.append(rows)
            rows = []


def adopted(uri: str, plan: Plan, of: dict[str, StageSpec]) -> Committer:
    """The committer of a run that has taken over what others have journalled."""
    store = Store.open(uri)
    committer = Committer(
        specs=of,
        task_of=lambda shard_id: plan.task(int(shard_id)),
        items_of=lambda shard_id: [],
        tables=StageTables(store),
        journal=Journal(store, "20260102T000000-next"),
        breaker=Breaker(BreakerConfig()),
        footer={},
    )
    adopt_journals(store, committer, "20260102T000000-next", wanted=PendingShards(plan), whole=lambda first, last: True)
    return committer
