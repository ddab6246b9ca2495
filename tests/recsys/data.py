"""Small generated worlds with something to learn in them."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.catalogue import Catalogue
from recsys.interactions import Interactions, interactions_of
from recsys.protocol import ProtocolConfig, Split, split_interactions

TOPICS = 6


def topic_world(*, users: int, items: int, seed: int = 0) -> tuple[Interactions, npt.NDArray[np.float32]]:
    """Users who walk through one topic's items in order, and features that tell the topic.

    Item i has topic i % TOPICS; after it comes i + TOPICS, around the end. So the next item is to be learned from order
    and the topic from content.

    Returns:
        The events, and (items, 8) features; item i is line i and is called `v<i>`, with three digits.
    """
    rng = np.random.default_rng(seed)
    names: list[tuple[str, str]] = []
    for user in range(users):
        item = int(rng.integers(items))
        for _ in range(int(rng.integers(4, 12))):
            names.append((f"u{user:04d}", f"v{item:03d}"))
            item = (item + TOPICS) % items
    centres = rng.normal(size=(TOPICS, 8))
    features = centres[np.arange(items) % TOPICS] + 0.3 * rng.normal(size=(items, 8))
    columns = list(zip(*names, strict=True))
    return interactions_of(pa.array(columns[0]), pa.array(columns[1]), None), features.astype(np.float32)


def topic_split(*, users: int = 300, items: int = 60, seed: int = 0) -> tuple[Split, npt.NDArray[np.float32]]:
    """The same, split."""
    events, features = topic_world(users=users, items=items, seed=seed)
    catalogue = Catalogue.of([f"v{item:03d}" for item in range(items)], "generated")
    return split_interactions(events, catalogue, ProtocolConfig())[0], features


def split_of(sequences: list[list[int]], item_count: int) -> Split:
    """A split of these kept sequences."""
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in sequences])]).astype(np.int64)
    items = np.array([item for one in sequences for item in one], dtype=np.int32)
    return Split(item_count=item_count, offsets=offsets, items=items)
