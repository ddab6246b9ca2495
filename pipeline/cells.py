"""One cell of the grid: a model, a row of features and a seed; how it is named, run and stored."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from records.fingerprint import fingerprint
from recsys.baselines import content_lists, popularity_lists
from recsys.features import Features, joined
from recsys.interactions import Ints
from recsys.measure import LIST_LENGTH, CutoffMeasures, measure
from recsys.model import ModelConfig
from recsys.protocol import Part, Split
from recsys.scoring import model_lists
from recsys.train import Epoch, TrainConfig, device_of, train
from storage.tables import encode_table, read_table

REVISION = 2
"""Raised when the code of recsys/ changes a result."""

ID = "id"
"""The source that is no feature: a vector of its own for each item."""

FLOOR = ("popularity", "content")
"""Models without training, hence without seeds."""

_FOOTER = b"reelscribe.cell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A model and how it is trained."""

    model: ModelConfig
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one task runs."""

    model: str
    """`two_towers`, `sasrec`, `popularity` or `content`."""
    row: tuple[str, ...]
    """Sources of the items' vectors: `id`, names of features, or both; empty for popularity."""
    seed: int = 0

    @property
    def row_name(self) -> str:
        """As on the command line: `id+metadata`."""
        return "+".join(self.row) or "-"

    @property
    def sources(self) -> tuple[str, ...]:
        """The row's features."""
        return tuple(source for source in self.row if source != ID)

    def __str__(self) -> str:
        return f"{self.model} {self.row_name} seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a cell cost."""

    cpu_seconds: float
    """Over all threads."""
    gpu_seconds: float
    """By the clock, times the share of a GPU that the cell held; 0 on a CPU."""
    seconds: float
    """By the clock."""
    epochs: int = 0
    train_cpu_seconds: float = 0.0
    """Of all epochs, without the validations."""
    device: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellResult:
    """What a cell found."""

    cell: Cell
    ranks: Ints
    """(U,) place of each user's test item from 0, `LIST_LENGTH` where it is not in the list."""
    test: tuple[CutoffMeasures, ...]
    validation: tuple[CutoffMeasures, ...]
    cost: Cost
    versions: Mapping[str, str]


def cell_path(cell: Cell, arm: Arm | None, split_digest: str, feature_digests: Mapping[str, str]) -> str:
    """Where a cell's result lies: its name says all that can change it, and nothing else.

    Args:
        cell: The cell.
        arm: Its model's; None for the floor.
        split_digest: Of the users and the catalogue.
        feature_digests: Source to the digest of its vectors.
    """
    name = fingerprint(
        stage=f"evaluate.{cell.model}",
        revision=REVISION,
        fields={
            "row": cell.row,
            "seed": cell.seed,
            "list_length": LIST_LENGTH,
            "arm": None if arm is None else replace(arm, train=replace(arm.train, device="")),
        },
        model_commit=None,
        upstream={"split": split_digest} | {source: feature_digests[source] for source in cell.sources},
    )
    return f"cells/{name}.parquet"


def digest(arrays: Sequence[npt.NDArray[Any]], texts: Sequence[str] = ()) -> str:
    """A name for the contents of arrays and texts."""
    state = hashlib.blake2b(digest_size=16)
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).data)
    state.update(json.dumps(list(texts)).encode())
    return state.hexdigest()


def run_cell(
    cell: Cell, arm: Arm | None, split: Split, features: Sequence[Features], *, threads: int, gpu_share: float
) -> CellResult:
    """Trains where the model needs it, and measures.

    Args:
        cell: What to run.
        arm: The model's; None for the floor.
        split: The users.
        features: Those of `cell.sources`, in order.
        threads: Cores to use.
        gpu_share: Part of a GPU that is held.
    """
    torch.set_num_threads(threads)
    start, start_cpu = time.perf_counter(), time.process_time()
    device = torch.device("cpu") if arm is None else device_of(arm.train.device)
    lists, epochs = _lists(cell, arm, split, joined(features), device)
    validation, test = measure(lists[0], split, "validation"), measure(lists[1], split, "test")
    seconds = time.perf_counter() - start
    return CellResult(
        cell=cell,
        ranks=test.ranks,
        test=test.cutoffs,
        validation=validation.cutoffs,
        cost=Cost(
            cpu_seconds=time.process_time() - start_cpu,
            gpu_seconds=held_gpu_seconds(device, seconds, gpu_share),
            seconds=seconds,
            epochs=len(epochs),
            train_cpu_seconds=sum((epoch.train_cpu_seconds for epoch in epochs), start=0.0),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        ),
        versions={"torch": torch.__version__, "numpy": np.__version__},
    )


def _lists(
    cell: Cell,
    arm: Arm | None,
    split: Split,
    vectors: npt.NDArray[np.float32] | None,
    device: torch.device,
) -> tuple[list[Ints], Sequence[Epoch]]:
    """Each user's best items in validation and in test, and how the model was trained where it needs it."""
    parts: tuple[Part, Part] = ("validation", "test")
    if cell.model == "popularity":
        return [popularity_lists(split, part, LIST_LENGTH) for part in parts], ()
    if cell.model == "content":
        assert vectors is not None
        length = ModelConfig(name="sasrec").max_length
        lists = [content_lists(split, vectors, part, LIST_LENGTH, max_length=length, device=device) for part in parts]
        return lists, ()
    assert arm is not None
    model, report = train(arm.model, arm.train, split, use_ids=ID in cell.row, features=vectors, seed=cell.seed)
    return [model_lists(model, split, part, LIST_LENGTH) for part in parts], report.epochs


def held_gpu_seconds(device: torch.device, seconds: float, gpu_share: float) -> float:
    """GPU seconds of a cell that ran for `seconds` by the clock: four quarters of a GPU side by side cost one GPU."""
    return seconds * gpu_share if device.type == "cuda" else 0.0


def encode_cell(result: CellResult) -> bytes:
    """A result as one Parquet file: a line a user, all else in its footer."""
    values = asdict(replace(result, ranks=np.zeros(0, dtype=np.int32)))
    del values["ranks"]
    return encode_table(
        pa.table({"rank": pa.array(result.ranks, pa.int32())}), footer={_FOOTER.decode(): json.dumps(values)}
    )


def decode_cell(data: bytes) -> CellResult:
    """What `encode_cell` wrote."""
    table = read_table(data)
    values = json.loads((table.schema.metadata or {})[_FOOTER])
    cell = values["cell"]
    return CellResult(
        cell=Cell(model=cell["model"], row=tuple(cell["row"]), seed=cell["seed"]),
        ranks=table["rank"].to_numpy().astype(np.int32),
        test=tuple(CutoffMeasures(**one) for one in values["test"]),
        validation=tuple(CutoffMeasures(**one) for one in values["validation"]),
        cost=Cost(**values["cost"]),
        versions=values["versions"],
    )
