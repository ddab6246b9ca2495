"""What fits a cluster, and what does not."""

from itertools import permutations

import pytest

from cluster.capacity import Capacity

HAS = Capacity(cpus=8, gpus=1, memory_bytes=2**30)


@pytest.mark.parametrize(
    ("cpus", "gpus", "memory_bytes", "fits"),
    [
        (8, 1, 2**30, True),
        (8.001, 1, 0, False),
        (0, 1.001, 0, False),
        (0, 0, 2**30 + 1, False),
    ],
)
def test_all_must_be_there_at_once(cpus: float, gpus: float, memory_bytes: float, fits: bool) -> None:
    assert HAS.holds(Capacity(cpus=cpus, gpus=gpus, memory_bytes=memory_bytes)) == fits


def test_shares_that_make_a_whole_gpu_fit_it_in_whatever_order_they_are_added() -> None:
    sums = {sum(shares) for shares in permutations((0.5, 0.3, 0.1, 0.05, 0.05))}
    assert max(sums) > 1, "floats alone would not fit"
    assert all(HAS.holds(Capacity(cpus=0, gpus=one, memory_bytes=0)) for one in sums)
