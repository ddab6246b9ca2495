"""Tiny Qwen2.5-VL, Qwen3-VL and Qwen2-Audio with seeded random float32 weights, for vLLM and transformers alike.

The weights are scaled so that what the model sees, hears and is told of the time decides the words, with margins far
above float32's rounding: with the usual 0.02 every clip would get the same words and no comparison could fail. Only
whole words and the end token can be spoken.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    WhisperFeatureExtractor,
)

_WIDTH = 128
_VISION_WIDTH = 64
_CONTEXT = 8192
_PAD, _END = "<|endoftext|>", "<|im_end|>"
_VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
_AUDIO_TOKENS = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
_VOCABULARY = """
the a of and in to with on at is are person people child dog cat hand face crowd street kitchen stage rooftop beach
forest car train ball food pan water sky night day music song voice drum guitar piano engine wind rain laughter
applause speech walks runs jumps dances sings laughs talks plays cooks flips turns falls shows holds looks smiles
slowly quickly loudly softly happily calm joyful tense funny tender dark bright red blue green white black small
large old young fast slow first then while before after near behind above text title sign logo reads says scene
camera close wide shot moves cuts background video sound clip describe what who where mood humour
"""
_WORDS = tuple(_VOCABULARY.split())

_VISION_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_AUDIO_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>\n"
    "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_qwen2_5_vl(out: Path) -> None:
    """Writes a Qwen2.5-VL of two layers: vision tower with window attention, multimodal rotary positions in time.

    Args:
        out: An existing empty folder.
    """
    tokenizer = _tokenizer(_VISION_TOKENS)
    config = Qwen2_5_VLConfig(
        text_config=_text_config(tokenizer, mrope_section=[4, 6, 6]),
        vision_config={
            "depth": 2,
            "hidden_size": _VISION_WIDTH,
            "intermediate_size": 2 * _VISION_WIDTH,
            "num_heads": 2,
            "out_hidden_size": _WIDTH,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
        },
        **_vision_ids(tokenizer),
    )
    _save_model(Qwen2_5_VLForConditionalGeneration(config), tokenizer, out)
    size = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        chat_template=_VISION_TEMPLATE,
    ).save_pretrained(out)


def build_qwen3_vl(out: Path) -> None:
    """Writes a Qwen3-VL of two layers: interleaved rotary positions, deep-stacked vision features, times as text.

    Args:
        out: An existing empty folder.
    """
    tokenizer = _tokenizer(_VISION_TOKENS)
    config = Qwen3VLConfig(
        text_config=_text_config(tokenizer, mrope_section=[6, 5, 5], mrope_interleaved=True) | {"head_dim": 32},
        vision_config={
            "depth": 2,
            "hidden_size": _VISION_WIDTH,
            "intermediate_size": 2 * _VISION_WIDTH,
            "num_heads": 2,
            "out_hidden_size": _WIDTH,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0, 1],
        },
        **_vision_ids(tokenizer),
    )
    _save_model(Qwen3VLForConditionalGeneration(config), tokenizer, out)
    # Unlike Qwen2.5-VL's, this size bounds the pixels of all frames together.
    size = {"shortest_edge": 4 * 64 * 64, "longest_edge": 16 * 128 * 128}
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            size={"shortest_edge": 64 * 64, "longest_edge": 128 * 128}, patch_size=16
        ),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        chat_template=_VISION_TEMPLATE,
    ).save_pretrained(out)


def build_qwen2_audio(out: Path) -> None:
    """Writes a Qwen2-Audio of two layers behind a Whisper encoder of two.

    Args:
        out: An existing empty folder.
    """
    tokenizer = _tokenizer(_AUDIO_TOKENS)
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "d_model": _VISION_WIDTH,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 2 * _VISION_WIDTH,
            "num_mel_bins": 128,
            "max_source_positions": 1500,
        },
        text_config={"model_type": "qwen2"} | _text_config(tokenizer),
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    _save_model(Qwen2AudioForConditionalGeneration(config), tokenizer, out)
    Qwen2AudioProcessor(
        feature_extractor=WhisperFeatureExtractor(feature_size=128),
        tokenizer=tokenizer,
        chat_template=_AUDIO_TEMPLATE,
    ).save_pretrained(out)


def _text_config(tokenizer: PreTrainedTokenizerFast, **rope: object) -> dict[str, object]:
    """Two layers with heads of 32: the smallest that vLLM's attention on CPU takes."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": _WIDTH // 32,
        "num_key_value_heads": 2,
        "max_position_embeddings": _CONTEXT,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, **rope},
        "bos_token_id": tokenizer.convert_tokens_to_ids(_PAD),
        "eos_token_id": tokenizer.convert_tokens_to_ids(_END),
        "tie_word_embeddings": False,
    }


def _vision_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    return {f"{key}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for key, token in names.items()}


def _save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Fills the weights from one seed, keeps the speakable tokens, writes config and safetensors."""
    random = torch.Generator().manual_seed(0)
    speakable = torch.zeros(len(tokenizer), 1)
    speakable[tokenizer.convert_tokens_to_ids([f"Ġ{word}" for word in _WORDS])] = 1
    # Below a word's: texts end by themselves, but few of them at once.
    speakable[tokenizer.convert_tokens_to_ids(_END)] = 0.7
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.fill_(0.0 if name.endswith("bias") else _gain(name))
                continue
            spread = 1.0 if "embed" in name.split(".")[-2] else weight[0].numel() ** -0.5
            weight.copy_(torch.randn(weight.shape, generator=random) * spread * _gain(name))
        model.get_output_embeddings().weight.mul_(speakable)
    end, pad = tokenizer.convert_tokens_to_ids(_END), tokenizer.convert_tokens_to_ids(_PAD)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad, do_sample=False)
    model.to(torch.float32).save_pretrained(out)
    _use_published_names(out / "model.safetensors")


def _use_published_names(weights: Path) -> None:
    """Names the weights as published checkpoints do: transformers 5.22 doubles a part of Qwen2-Audio's names."""
    tensors = load_file(weights)
    wrong, right = "language_model.model.model.", "language_model.model."
    renamed = {name.replace(wrong, right): tensor for name, tensor in tensors.items()}
    if renamed.keys() != tensors.keys():
        save_file(renamed, weights, metadata={"format": "pt"})


def _gain(name: str) -> float:
    """How much larger than its input a layer's output is: 1, but attention in the language model looks and counts more.

    Otherwise the last word alone would decide the next.
    """
    if "language_model" not in name:
        return 1.0
    return {"q_proj": 4.0, "q_norm": 4.0, "o_proj": 3.0}.get(name.split(".")[-2], 1.0)


def _tokenizer(media_tokens: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Byte-level BPE: every byte, the words above after a space, and the special tokens of the real models."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for word in _WORDS:
        for end in range(len(word)):
            merges[f"Ġ{word[:end]}", word[end]] = None
    special = (_PAD, "<|im_start|>", _END, *media_tokens)
    tokens = [*special, *alphabet, *("".join(pair) for pair in merges)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END, pad_token=_PAD)
