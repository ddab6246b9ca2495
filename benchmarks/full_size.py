"""Models of the published sizes without their weights, so that memory and speed can be measured where no hub is near.

Tokenizers and processors are those of the tiny models, stretched to the published vocabularies. The engines' weights
are files of the right length with nothing in them: vLLM fills the memory itself (`load_format: dummy`). The others get
random numbers. The words are noise, and no answer ends by itself.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import AutoConfig, PreTrainedModel

from models.tiny import ensure_tiny

DEFAULT_FOLDER = Path("~/.cache/reelscribe/full_size")
_SHARD_BYTES = 4 << 30

_QWEN2_5_VL_7B = {
    "text_config": {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128_000,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}
"""Source: config.json of Qwen/Qwen2.5-VL-7B-Instruct."""

_QWEN2_AUDIO_7B = {
    "audio_config": {
        "d_model": 1280,
        "encoder_layers": 32,
        "encoder_attention_heads": 20,
        "encoder_ffn_dim": 5120,
    },
    "text_config": {
        "vocab_size": 156_032,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 8192,
    },
}
"""Source: config.json of Qwen/Qwen2-Audio-7B-Instruct."""

_PIXELS = {"shortest_edge": 56 * 56, "longest_edge": 12_845_056}
"""Source: preprocessor_config.json of Qwen/Qwen2.5-VL-7B-Instruct."""


def ensure_full_size(name: str, folder: Path = DEFAULT_FOLDER) -> Path:
    """The folder of a model, built if this is its first use.

    Args:
        name: `qwen2_5_vl`, `qwen2_audio`, `whisper`, `ast` or `bert`, as the tiny models are called.
        folder: Where the models are kept; the large ones take no room there, the others some 5 GB.
    """
    target = folder.expanduser().resolve() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.is_dir():
            scratch = target.with_suffix(".part")
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(ensure_tiny(name), scratch)
            _BUILDERS[name](scratch)
            scratch.rename(target)
    return target


def _qwen2_5_vl(out: Path) -> None:
    from transformers import Qwen2_5_VLForConditionalGeneration

    _engine(out, _QWEN2_5_VL_7B, Qwen2_5_VLForConditionalGeneration)
    file = out / "processor_config.json"
    processor = json.loads(file.read_text())
    for kind in ("image_processor", "video_processor"):
        processor[kind]["size"] = _PIXELS
    file.write_text(json.dumps(processor, indent=2))


def _qwen2_audio(out: Path) -> None:
    from transformers import Qwen2AudioForConditionalGeneration

    _engine(out, _QWEN2_AUDIO_7B, Qwen2AudioForConditionalGeneration)


def _engine(out: Path, sizes: Mapping[str, Mapping[str, Any]], architecture: type[PreTrainedModel]) -> None:
    """Turns a tiny model's folder into one of these sizes."""
    file = out / "config.json"
    config = json.loads(file.read_text())
    config["dtype"] = "bfloat16"
    for part, changes in sizes.items():
        config[part].update(changes)
        config[part].pop("layer_types", None)
    file.write_text(json.dumps(config, indent=2))
    _stretch_tokenizer(out / "tokenizer.json", sizes["text_config"]["vocab_size"])
    with torch.device("meta"):
        model = architecture._from_config(AutoConfig.from_pretrained(out), dtype=torch.bfloat16)
    (out / "model.safetensors").unlink()
    _empty_weights(out, {name: weight.shape for name, weight in model.named_parameters()})


def _stretch_tokenizer(file: Path, size: int) -> None:
    """Gives every number that the model may say a word."""
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary.update({f"Ġword{index}": index for index in range(len(vocabulary), size)})
    file.write_text(json.dumps(tokenizer, ensure_ascii=False))


def _empty_weights(out: Path, shapes: Mapping[str, torch.Size]) -> None:
    """Files whose headers name bfloat16 tensors, and whose numbers are holes. Several, since a file's digest is read
    by one thread."""
    for count, shard in enumerate(_shards(shapes)):
        header: dict[str, object] = {}
        length = 0
        for name, shape in shard.items():
            end = length + 2 * shape.numel()
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [length, end]}
            length = end
        text = json.dumps(header).encode()
        with (out / f"model-{count:05d}.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + length)


def _shards(shapes: Mapping[str, torch.Size]) -> Iterator[dict[str, torch.Size]]:
    shard: dict[str, torch.Size] = {}
    for name, shape in shapes.items():
        if shard and 2 * sum(other.numel() for other in shard.values()) > _SHARD_BYTES:
            yield shard
            shard = {}
        shard[name] = shape
    yield shard


def _whisper(out: Path) -> None:
    """Whisper large v2's layers (Radford et al., 2022, table 1); version 3 has 48 mel bins and a language more."""
    from ctranslate2.converters import TransformersConverter
    from transformers import (
        GenerationConfig,
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    settings = json.loads((out / "config.json").read_text())
    end = 50_257
    config = WhisperConfig(
        vocab_size=51_865,
        num_mel_bins=80,
        d_model=1280,
        encoder_layers=32,
        decoder_layers=32,
        encoder_attention_heads=20,
        decoder_attention_heads=20,
        encoder_ffn_dim=5120,
        decoder_ffn_dim=5120,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=end + 1,
    )
    source = out / "source"
    PreTrainedTokenizerFast(
        tokenizer_file=str(out / "tokenizer.json"), bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    ).save_pretrained(source)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(source)
    model = _random(WhisperForConditionalGeneration, config)
    model.generation_config = GenerationConfig(
        suppress_tokens=[],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        lang_to_id={f"<|{code}|>": end + 2 + index for index, code in enumerate(_languages())},
        alignment_heads=[[31, 0], [31, 1]],
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=end + 1,
    )
    model.save_pretrained(source)
    converted = out / "converted"
    files = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(source), copy_files=files).convert(str(converted), quantization="float16")
    shutil.rmtree(source)
    shutil.copytree(converted, out, dirs_exist_ok=True)
    shutil.rmtree(converted)


def _languages() -> tuple[str, ...]:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return tuple(LANGUAGES)[:99]


def _ast(out: Path) -> None:
    """The published sizes are the defaults of transformers' config, but for AudioSet's 527 labels."""
    from transformers import ASTConfig, ASTForAudioClassification

    labels = {index: f"Sound {index}" for index in range(527)}
    config = ASTConfig(id2label=labels, label2id={label: index for index, label in labels.items()})
    _random(ASTForAudioClassification, config, torch.float32).save_pretrained(out)


def _bert(out: Path) -> None:
    """Source: config.json of BAAI/bge-large-en-v1.5."""
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    _random(BertModel, config, torch.float32).save_pretrained(out)
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
        ("1_Pooling/config.json", "word_embedding_dimension"),
    ):
        settings = json.loads((out / name).read_text())
        settings[key] = 1024 if key == "word_embedding_dimension" else 512
        (out / name).write_text(json.dumps(settings, indent=2))


def _random(architecture: type[PreTrainedModel], config: object, dtype: torch.dtype = torch.float16) -> PreTrainedModel:
    """On the GPU where there is one: a billion numbers take a CPU minutes."""
    with torch.device("meta"):
        model = architecture(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(dtype).to_empty(device=device)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.02)
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
        for buffer in model.buffers():
            buffer.zero_()
    model.tie_weights()
    return model.to("cpu").eval()


_BUILDERS: Mapping[str, Callable[[Path], None]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen2_audio": _qwen2_audio,
    "whisper": _whisper,
    "ast": _ast,
    "bert": _bert,
}
