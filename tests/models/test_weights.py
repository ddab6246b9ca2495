"""What a model's files say of its size is what torch holds once they are loaded."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.weights import model_folder, weight_bytes
from records.errors import UserError


@pytest.mark.parametrize(
    ("dtype", "as_loaded"), [("auto", None), ("bfloat16", torch.bfloat16), ("float32", torch.float32)]
)
def test_bytes_are_those_of_the_loaded_tensors(tmp_path: Path, dtype: str, as_loaded: torch.dtype | None) -> None:
    tensors = {
        "a": torch.zeros(3, 5),
        "b": torch.zeros(7, dtype=torch.bfloat16),
        "packed": torch.zeros(11, dtype=torch.int32),
        "fp8": torch.zeros(13, dtype=torch.float8_e4m3fn),
    }
    names = list(tensors)
    save_file({name: tensors[name] for name in names[:2]}, tmp_path / "model-1.safetensors", {"format": "pt"})
    save_file({name: tensors[name] for name in names[2:]}, tmp_path / "model-2.safetensors")
    loaded = [
        tensor.to(as_loaded) if as_loaded and tensor.dtype in (torch.float32, torch.bfloat16) else tensor
        for tensor in tensors.values()
    ]
    assert weight_bytes(model_folder(str(tmp_path), None), dtype) == sum(one.nbytes for one in loaded)


def test_a_folder_without_safetensors_or_with_a_broken_one_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no safetensors files"):
        weight_bytes(tmp_path, "auto")
    (tmp_path / "model.safetensors").write_bytes(b"garbage that is long enough")
    with pytest.raises(UserError, match="not a safetensors file"):
        weight_bytes(tmp_path, "auto")
