"""How much memory a model's weights take once they are loaded, read from the headers of its safetensors files.

Format: https://github.com/huggingface/safetensors (8 bytes of length, little endian, then JSON).
"""

import json
from pathlib import Path

from huggingface_hub import snapshot_download

from records.errors import UserError

_STORED_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Of one number, for the formats that a loader converts; all others stay as they are."""
_LOADED_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def model_folder(model: str, revision: str | None) -> Path:
    """The folder with a model's weights; fetches them from the hub where they are not in its cache."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    return Path(snapshot_download(model, revision=revision, allow_patterns=["*.safetensors"]))


def weight_bytes(folder: Path, dtype: str) -> int:
    """Bytes of the weights in memory.

    Args:
        folder: Holds the safetensors files.
        dtype: What floating-point weights are loaded as; `auto` as they are stored. Quantized ones stay as they are.

    Raises:
        UserError: There are no safetensors files, or one cannot be read.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(
            f"model {folder}: no safetensors files say how large it is; set engine.engine_args.gpu_memory_utilization"
        )
    return sum(_bytes_of(file, _LOADED_BYTES.get(dtype)) for file in files)


def _bytes_of(file: Path, float_bytes: int | None) -> int:
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, file.stat().st_size)))
        total = 0
        for name, tensor in header.items():
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                stored = tensor["dtype"]
                converts = float_bytes is not None and stored in _STORED_BYTES
                total += (end - start) * float_bytes // _STORED_BYTES[stored] if converts else end - start
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"model {file}: not a safetensors file: {error}") from error
    return total
