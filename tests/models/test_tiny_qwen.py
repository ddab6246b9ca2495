"""The tiny Qwen models: the same bytes each time, placeholders where the real ones have them, words only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.tiny_qwen import build_qwen2_5_vl, build_qwen2_audio, build_qwen3_vl

BUILDERS = [build_qwen2_5_vl, build_qwen3_vl, build_qwen2_audio]


@pytest.mark.parametrize("build", BUILDERS)
def test_two_builds_are_the_same_bytes(build: Callable[[Path], None], tmp_path: Path) -> None:
    contents: list[dict[str, bytes]] = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        torch.manual_seed(len(contents))
        build(folder)
        contents.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert contents[0] == contents[1]
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= contents[0].keys()


@pytest.mark.parametrize(
    ("name", "medium", "placeholder"),
    [
        ("qwen2_5_vl", "video", "<|vision_start|><|video_pad|><|vision_end|>"),
        ("qwen3_vl", "video", "<|vision_start|><|video_pad|><|vision_end|>"),
        ("qwen2_audio", "audio", "<|audio_bos|><|AUDIO|><|audio_eos|>"),
    ],
)
def test_the_chat_template_marks_the_medium(
    name: str, medium: str, placeholder: str, tiny_models: Callable[[str], Path]
) -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(tiny_models(name))
    user = {"role": "user", "content": [{"type": medium}, {"type": "text", "text": "What?"}]}
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be kind."}, user]
    prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n" + placeholder)
    assert prompt.endswith("What?<|im_end|>\n<|im_start|>assistant\n")
    tokens = processor.tokenizer(prompt)["input_ids"]
    assert processor.tokenizer.decode(tokens) == prompt


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "qwen2_audio"])
def test_only_words_and_the_end_can_be_said(name: str, tiny_models: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    weights = load_file(tiny_models(name) / "model.safetensors")
    (head,) = (weight for key, weight in weights.items() if key.endswith("lm_head.weight"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_models(name))
    spoken = [tokenizer.decode([token]) for token in head.abs().sum(1).nonzero().flatten().tolist()]
    assert "<|im_end|>" in spoken
    assert all(text == "<|im_end|>" or (text[0] == " " and text[1:].isalpha()) for text in spoken)
    assert len(spoken) > 100
