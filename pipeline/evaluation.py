"""What the grid runs on: users, catalogue, features and durations, from a release and from what a user brings."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.cells import FLOOR, ID, Arm, Cell, digest
from records.errors import UserError
from recsys.catalogue import Catalogue
from recsys.features import Features, Vectors, align
from recsys.interactions import Interactions
from recsys.measure import LIST_LENGTH
from recsys.model import ModelConfig
from recsys.protocol import Exclusions, ProtocolConfig, Split, split_interactions
from recsys.slices import SliceConfig
from storage.faults import redact
from storage.release_reader import ReleaseReader, read_vectors

MODELS = ("two_towers", "sasrec")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """Everything that an evaluation can be told.

    Raises:
        ValueError: A number is out of its range.
    """

    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    slices: SliceConfig = field(default_factory=SliceConfig)
    two_towers: Arm = field(default_factory=lambda: Arm(model=ModelConfig(name="two_towers", loss="in_batch")))
    sasrec: Arm = field(default_factory=lambda: Arm(model=ModelConfig(name="sasrec")))
    seeds: int = 3
    """Runs of each model and row; their seeds are 0, 1, …"""
    first_seed: int = 0
    threads: int | None = None
    """Cores of one cell; None shares out those that there are among the cells that are left."""
    gpu_share: float = 0.25
    """Part of a GPU that one cell holds, where there are GPUs."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError("seeds and threads must be at least 1")
        if not 0 < self.gpu_share <= 1:
            raise ValueError("gpu_share lies above 0 and at most at 1")
        if (self.two_towers.model.name, self.sasrec.model.name) != MODELS:
            raise ValueError("two_towers.model.name and sasrec.model.name are fixed")

    def arm(self, model: str) -> Arm | None:
        """A model's; None for the floor."""
        return {"two_towers": self.two_towers, "sasrec": self.sasrec}.get(model)


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtFeatures:
    """Vectors from outside the release."""

    name: str
    uri: str
    ids_uri: str | None
    """None where the lines are those of the release's `item_ids.parquet`."""

    @classmethod
    def parse(cls, text: str) -> "BroughtFeatures":
        """From `NAME=VECTORS.npy[,IDS]`.

        Raises:
            UserError: It is not of that form, or the name is taken.
        """
        name, equals, rest = text.partition("=")
        uri, comma, ids_uri = rest.partition(",")
        if not equals or not name or not uri or (comma and not ids_uri):
            raise UserError(f"--features {redact(text)}: expected NAME=VECTORS.npy or NAME=VECTORS.npy,IDS")
        if name == ID or "+" in name or "/" in name:
            raise UserError(f"--features {redact(text)}: {name!r} is no name for features")
        return cls(name=name, uri=uri, ids_uri=ids_uri or None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationData:
    """Users and items as the models see them."""

    catalogue: Catalogue
    split: Split
    exclusions: Exclusions
    features: Mapping[str, Features]
    """Source to its vectors, those of the release first; what no row reads is not loaded."""
    durations_seconds: npt.NDArray[np.float64] | None
    """(N,) NaN where unknown; None where no item's is known."""

    def check_size(self, protocol: ProtocolConfig) -> None:
        """Sees that lists can be made.

        Raises:
            UserError: The catalogue has fewer items than a list and a history.
        """
        items, history = len(self.catalogue.item_ids), protocol.last_items - 1
        if items < LIST_LENGTH + history:
            words = f"lists of {LIST_LENGTH} beside histories of up to {history} take {LIST_LENGTH + history}"
            raise UserError(f"{items} items are too few for an evaluation: {words}")

    def split_digest(self) -> str:
        """A name for the users and the catalogue."""
        return digest([self.split.offsets, self.split.items], self.catalogue.item_ids)

    def feature_digests(self) -> Mapping[str, str]:
        """A name for each source's vectors."""
        return {name: digest([features.values]) for name, features in self.features.items()}


def load_data(
    *,
    interactions: Interactions,
    release: ReleaseReader | None,
    brought: Sequence[BroughtFeatures],
    protocol: ProtocolConfig,
    sources: Collection[str] | None = None,
) -> EvaluationData:
    """Reads everything. The catalogue is the release's items; without a release, the items of the interactions.

    Args:
        interactions: Who watched what.
        release: Items, their views and durations.
        brought: Features from elsewhere.
        protocol: How the interactions are split.
        sources: Names of the features to load; None for all.

    Raises:
        UserError: A file is missing or broken, ids do not match, two sources have one name, or there is none.
    """
    names = source_names(release.views() if release is not None else (), brought)
    wanted = [name for name in names if sources is None or name in sources]
    loaded = [_load(name, release, brought) for name in wanted]
    if release is not None:
        catalogue = Catalogue.of(release.item_ids, f"{release.uri}item_ids.parquet")
    else:
        catalogue = Catalogue.of(interactions.item_ids, "the table of interactions")
    split, exclusions = split_interactions(interactions, catalogue, protocol)
    durations = None if release is None else _durations(release, catalogue)
    return EvaluationData(
        catalogue=catalogue,
        split=split,
        exclusions=exclusions,
        features={vectors.name: align(vectors, catalogue) for vectors in loaded},
        durations_seconds=durations,
    )


def source_names(views: Sequence[str], brought: Sequence[BroughtFeatures]) -> Sequence[str]:
    """All features that there are, by name, the views of the release first.

    Raises:
        UserError: Two have one name.
    """
    names = [*views, *(one.name for one in brought)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two sources are called {twice[0]}: give --features another name")
    return names


def _load(name: str, release: ReleaseReader | None, brought: Sequence[BroughtFeatures]) -> Vectors:
    one = next((one for one in brought if one.name == name), None)
    if one is not None:
        stored = read_vectors(one.uri, one.ids_uri, release.item_ids if release is not None else None)
        return Vectors(name=name, item_ids=stored.item_ids, values=stored.values)
    assert release is not None
    stored = release.vectors(name)
    return Vectors(name=name, item_ids=stored.item_ids, values=stored.values, present=stored.present)


def _durations(release: ReleaseReader, catalogue: Catalogue) -> npt.NDArray[np.float64] | None:
    known = release.durations_seconds()
    if not known:
        return None
    return np.array([known.get(item_id, np.nan) for item_id in catalogue.item_ids], dtype=np.float64)


def parse_rows(texts: Sequence[str] | None, sources: Sequence[str]) -> Sequence[tuple[str, ...]]:
    """Rows such as `id`, `metadata`, `id+video+audio`. By default `id`, each source, and `id` with each source.

    Raises:
        UserError: A row names a source that there is not, or one twice.
    """
    if texts is None:
        return [(ID,), *((source,) for source in sources), *((ID, source) for source in sources)]
    rows: list[tuple[str, ...]] = []
    for text in texts:
        row = tuple(text.split("+"))
        for name in row:
            if name != ID and name not in sources:
                raise UserError(f"--rows {text}: no features {name!r}; there are {', '.join((ID, *sources))}")
        if len(set(row)) < len(row):
            raise UserError(f"--rows {text}: a source comes twice")
        if row not in rows:
            rows.append(row)
    return rows


def grid_cells(models: Sequence[str], rows: Sequence[tuple[str, ...]], config: EvaluateConfig) -> Sequence[Cell]:
    """The floor and every model, row and seed: seed by seed, so that a whole table is there early."""
    popularity, content = FLOOR
    cells = [Cell(model=popularity, row=())]
    cells += [Cell(model=content, row=row) for row in rows if ID not in row]
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        cells += [Cell(model=model, row=row, seed=seed) for row in rows for model in models]
    return cells
