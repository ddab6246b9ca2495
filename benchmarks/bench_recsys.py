"""How much CPU time SASRec by id costs here and in RecBole 1.2.1, training and evaluation, and at which quality.

    python -m benchmarks.bench_recsys [--epochs 3] [--threads 1] [--recbole PYTHON | --install-recbole FOLDER]
                                      [--interactions pairs.tsv | --users 50000]

Both sides get the same users and items, one after the other in one run, and count CPU seconds over all threads; only
the ratios mean something. RecBole needs an environment of its own, with older versions: `--install-recbole` makes one
with uv in a folder outside the repository, `--recbole` takes the interpreter of one that is there.
Without either, only our side runs. Without interactions, users are generated; quality then means little.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from benchmarks.recbole_side import REQUIREMENTS
from recsys.catalogue import Catalogue
from recsys.interactions import Interactions, interactions_of, read_interactions
from recsys.measure import LIST_LENGTH, measure
from recsys.model import ModelConfig
from recsys.protocol import ProtocolConfig, Split, split_interactions
from recsys.scoring import model_lists
from recsys.train import TrainConfig, train

ITEMS = 19_220


def main() -> None:
    """Runs both sides and prints both costs and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", help="MicroLens's pairs.tsv, or a table of events")
    parser.add_argument("--users", type=int, default=50_000, help="generated ones, where there are no interactions")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recbole", metavar="PYTHON", help="an interpreter that can import recbole")
    parser.add_argument("--install-recbole", metavar="FOLDER", help="make that environment here, where it is missing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    events = read_interactions(arguments.interactions) if arguments.interactions else _generated(arguments.users)
    split, _ = split_interactions(events, Catalogue.of(events.item_ids, "the interactions"), ProtocolConfig())
    ours = _ours(split, arguments.epochs)
    _print("ours", ours)
    python = _install(Path(arguments.install_recbole)) if arguments.install_recbole else arguments.recbole
    if python is None:
        print("RecBole was not asked for: --recbole PYTHON or --install-recbole FOLDER compares with it")
        return
    theirs = _theirs(python, split, arguments.epochs, arguments.threads)
    _print("RecBole", theirs)
    for what in ("train", "evaluate"):
        print(
            f"{what}: RecBole takes {theirs[what] / ours[what]:.2f} times our CPU seconds; "
            f"ours is {ours[what] / theirs[what]:.2f} of it"
        )


def _ours(split: Split, epochs: int) -> dict[str, float]:
    """CPU seconds of an epoch and of an evaluation, and the quality after the best of the epochs."""
    model, report = train(
        ModelConfig(name="sasrec"), TrainConfig(epochs=epochs, device="cpu"), split, use_ids=True, features=None, seed=0
    )
    test = measure(model_lists(model, split, "test", LIST_LENGTH), split, "test").cutoffs[0]
    best = report.epochs[report.best_epoch]
    return {
        "train": float(np.mean([epoch.train_cpu_seconds for epoch in report.epochs])),
        "evaluate": float(np.mean([epoch.evaluate_cpu_seconds for epoch in report.epochs])),
        "validation hr@10": best.hit_rate,
        "validation ndcg@10": best.ndcg,
        "test hr@10": test.hit_rate,
        "test ndcg@10": test.ndcg,
    }


def _theirs(python: str, split: Split, epochs: int, threads: int) -> dict[str, float]:
    """The same from RecBole, in its own interpreter."""
    script = Path(__file__).with_name("recbole_side.py")
    with tempfile.TemporaryDirectory() as folder:
        ends = np.cumsum(np.diff(split.offsets))
        data = Path(folder) / "kept" / "kept.inter"
        data.parent.mkdir()
        with data.open("w") as file:
            file.write("user_id:token\titem_id:token\ttimestamp:float\n")
            start = 0
            for user, end in enumerate(ends):
                for place, item in enumerate(split.items[start:end]):
                    file.write(f"{user}\t{item}\t{place}\n")
                start = int(end)
        done = subprocess.run(
            [python, str(script), folder, str(epochs), str(threads)],
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _install(folder: Path) -> str:
    """An environment with RecBole in it, made once."""
    python = folder / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv") or ".cache/uv/bin/uv"
        subprocess.run(
            [uv, "venv", "--quiet", "--python", f"{sys.version_info[0]}.{sys.version_info[1]}", str(folder)], check=True
        )
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *REQUIREMENTS], check=True)
    return str(python)


def _generated(users: int) -> Interactions:
    """Users who walk among items of Zipf's popularity."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.geometric(0.14, users) + 4, 5, 30)
    shares = 1 / (np.arange(ITEMS) + 20.0)
    items = rng.choice(ITEMS, size=int(lengths.sum()), p=shares / shares.sum())
    owners = np.repeat(np.arange(users), lengths)
    return interactions_of(pa.array(owners.astype(str).tolist()), pa.array(items.astype(str).tolist()), None)


def _print(name: str, result: dict[str, float]) -> None:
    print(f"{name:8} " + "  ".join(f"{key} {value:.4g}" for key, value in result.items()), flush=True)


if __name__ == "__main__":
    main()
