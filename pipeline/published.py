"""Published numbers on MicroLens-100K, to stand beside a table. Other users and items: not to be compared by digit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published result."""

    model: str
    features: str
    hit_rate_10: float
    ndcg_10: float | None
    source: str


_DESCRIBE: Final = "arXiv 2508.09789"
_MICROLENS: Final = "arXiv 2309.15379"

PUBLISHED: Final[Sequence[Published]] = (
    Published(model="Two-Towers", features="metadata", hit_rate_10=0.0414, ndcg_10=None, source=_DESCRIBE),
    Published(model="Two-Towers", features="conventional video", hit_rate_10=0.0393, ndcg_10=None, source=_DESCRIBE),
    Published(model="Two-Towers", features="MLLM video", hit_rate_10=0.0489, ndcg_10=None, source=_DESCRIBE),
    Published(model="Two-Towers", features="conventional audio", hit_rate_10=0.0253, ndcg_10=0.0130, source=_DESCRIBE),
    Published(model="Two-Towers", features="MLLM audio", hit_rate_10=0.0405, ndcg_10=0.0214, source=_DESCRIBE),
    Published(model="DSSM", features="id", hit_rate_10=0.0394, ndcg_10=0.0193, source=_MICROLENS),
    Published(model="GRU4Rec", features="id", hit_rate_10=0.0782, ndcg_10=0.0423, source=_MICROLENS),
    Published(model="SASRec", features="id", hit_rate_10=0.0909, ndcg_10=0.0517, source=_MICROLENS),
)
