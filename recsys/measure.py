"""Lists to the numbers of a result: one record that is stored, averaged over seeds and compared."""

from dataclasses import dataclass

from recsys.interactions import Ints
from recsys.metrics import coverage, gains, hits, popularity_lift, recommended_popularity
from recsys.protocol import Part, Split
from recsys.ranking import ranks_in

CUTOFFS = (10, 20)
LIST_LENGTH = max(CUTOFFS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoffMeasures:
    """The measures of the first K places."""

    k: int
    hit_rate: float
    ndcg: float
    coverage: float
    recommended_popularity: float
    popularity_lift: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """One model's result on one part."""

    ranks: Ints
    """(U,) place of each user's target from 0, `LIST_LENGTH` where it is not in the list."""
    cutoffs: tuple[CutoffMeasures, ...]


def measure(lists: Ints, split: Split, part: Part) -> Measured:
    """Measures (U, LIST_LENGTH) lists against a part's targets."""
    ranks = ranks_in(lists, split.targets(part))
    counts = split.training_counts()
    histories, lengths = split.histories(part)
    return Measured(
        ranks=ranks,
        cutoffs=tuple(
            CutoffMeasures(
                k=k,
                hit_rate=float(hits(ranks, k).mean()),
                ndcg=float(gains(ranks, k).mean()),
                coverage=coverage(lists[:, :k], split.item_count),
                recommended_popularity=recommended_popularity(lists[:, :k], counts),
                popularity_lift=popularity_lift(lists[:, :k], histories, lengths, counts),
            )
            for k in CUTOFFS
        ),
    )
