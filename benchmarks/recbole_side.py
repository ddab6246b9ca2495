"""RecBole's side of `bench_recsys`: runs in an interpreter that has RecBole and nothing of this project.

    PYTHON recbole_side.py FOLDER EPOCHS THREADS

FOLDER holds `kept/kept.inter`. Prints one line of JSON: CPU seconds of an epoch and of an evaluation, and the quality.
"""

import json
import sys
import time
from typing import Any

REQUIREMENTS = ("recbole==1.2.1", "torch==2.6.0", "numpy<2", "scipy<1.14", "pandas<2.2", "ray<2.40", "setuptools<80")
"""RecBole 1.2.1 is of 2025 and reads `numpy.bool8`'s relatives and unsafe checkpoints: newer versions break it."""


def main(folder: str, epochs: int, threads: int) -> None:
    """Trains SASRec on the kept events with the reference's settings, and counts."""
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.sequential_recommender import SASRec
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    torch.set_num_threads(threads)
    settings = {
        "data_path": folder, "checkpoint_dir": f"{folder}/saved", "use_gpu": False, "gpu_id": "", "state": "ERROR",
        "show_progress": False, "save_dataset": False, "save_dataloaders": False, "seed": 2020, "reproducibility": True,
        "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": 10,
        "hidden_size": 64, "inner_size": 256, "n_layers": 2, "n_heads": 2, "hidden_dropout_prob": 0.2,
        "attn_dropout_prob": 0.2, "loss_type": "CE", "train_neg_sample_args": None, "train_batch_size": 256,
        "eval_batch_size": 256, "learning_rate": 1e-3, "epochs": epochs, "eval_step": 1, "stopping_step": epochs,
        "metrics": ["Hit", "NDCG"], "topk": [10, 20], "valid_metric": "NDCG@10",
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    }  # fmt: skip
    config = Config(model="SASRec", dataset="kept", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    model = SASRec(config, train_data.dataset).to(config["device"])

    class Counting(Trainer):  # type: ignore[misc]
        """Counts the CPU seconds of epochs and validations."""

        def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - RecBole's own
            super().__init__(*arguments)
            self.spent: dict[str, list[float]] = {"train": [], "evaluate": []}

        def _train_epoch(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - RecBole's own
            start = time.process_time()
            loss = super()._train_epoch(*arguments, **options)
            self.spent["train"].append(time.process_time() - start)
            return loss

        def evaluate(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - RecBole's own
            start = time.process_time()
            result = super().evaluate(*arguments, **options)
            self.spent["evaluate"].append(time.process_time() - start)
            return result

    trainer = Counting(config, model)
    _, best = trainer.fit(train_data, valid_data, saved=True, show_progress=False)
    spent = {name: sum(values) / len(values) for name, values in trainer.spent.items()}
    # RecBole reads its own checkpoint in a way that torch refuses since 2.6.
    checkpoint = torch.load(trainer.saved_model_file, map_location="cpu", weights_only=False)
    model.load_state_dict(checkpoint["state_dict"])
    test = trainer.evaluate(test_data, load_best_model=False, show_progress=False)
    quality = {"validation hr@10": best["hit@10"], "validation ndcg@10": best["ndcg@10"]}
    quality |= {"test hr@10": test["hit@10"], "test ndcg@10": test["ndcg@10"]}
    sys.stdout.write(json.dumps(spent | {name: float(value) for name, value in quality.items()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
