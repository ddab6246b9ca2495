"""The protocol on real interactions gives what an independent count gives."""

from collections import Counter

import pytest

from recsys.baselines import popularity_lists
from recsys.catalogue import Catalogue
from recsys.interactions import read_interactions
from recsys.measure import LIST_LENGTH, measure
from recsys.protocol import ProtocolConfig, split_interactions
from tests.microlens import needs_microlens, shared_microlens

PAIRS = shared_microlens() / "MicroLens-50k_pairs.tsv"


@needs_microlens
def test_popularity_equals_an_independent_count() -> None:
    events = read_interactions(str(PAIRS))
    split, out = split_interactions(events, Catalogue.of(events.item_ids, "pairs"), ProtocolConfig())
    assert (out.kept_users, out.kept_events, split.item_count) == (50_000, 339_511, 19_220)
    found = measure(popularity_lists(split, "test", LIST_LENGTH), split, "test").cutoffs[0]

    kept = [[int(item) for item in line.split("\t")[1].split()][-13:] for line in PAIRS.read_text().splitlines()]
    counts = Counter(item for items in kept for item in items[:-2])
    order = sorted({item for items in kept for item in items}, key=lambda item: (-counts[item], item))
    hits = sum(items[-1] in [item for item in order[:40] if item not in items[:-1]][:10] for items in kept)
    assert found.hit_rate == hits / 50_000 == 0.00284
    assert found.ndcg == pytest.approx(0.00146, abs=5e-6)
