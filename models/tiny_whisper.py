"""A tiny multilingual Whisper for faster-whisper, converted by CTranslate2's own converter."""

import itertools
import shutil
import string
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from ctranslate2.converters import TransformersConverter
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

_TEXT_TOKENS = 50_257
_TIMESTAMPS = 1_501
_VOCABULARY = 51_865
_LANGUAGES = tuple(LANGUAGES)[:99]
_WIDTH = 64


def build_whisper(out: Path) -> None:
    """Writes a CTranslate2 model of two layers with the published vocabulary layout, tokenizer and feature settings.

    The order of the special tokens is that of openai/whisper's `get_tokenizer` (99 languages, 1,501 timestamps).

    Args:
        out: An existing empty folder.
    """
    tokenizer = _tokenizer()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        converted = Path(scratch) / "converted"
        tokenizer.save_pretrained(source)
        WhisperFeatureExtractor(feature_size=80).save_pretrained(source)
        _model(tokenizer).save_pretrained(source)
        files = ["tokenizer.json", "preprocessor_config.json"]
        TransformersConverter(str(source), copy_files=files).convert(str(converted), quantization="float32")
        shutil.copytree(converted, out, dirs_exist_ok=True)


def _model(tokenizer: PreTrainedTokenizerFast) -> WhisperForConditionalGeneration:
    torch.manual_seed(13)
    config = WhisperConfig(
        vocab_size=_VOCABULARY,
        num_mel_bins=80,
        d_model=_WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=2 * _WIDTH,
        decoder_ffn_dim=2 * _WIDTH,
        pad_token_id=_TEXT_TOKENS,
        bos_token_id=_TEXT_TOKENS,
        eos_token_id=_TEXT_TOKENS,
        decoder_start_token_id=_TEXT_TOKENS + 1,
        init_std=0.1,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        _make_it_listen(model)
        _make_it_stop(model)
    space = tokenizer.convert_tokens_to_ids("Ġ")
    model.generation_config = GenerationConfig(
        suppress_tokens=[],
        begin_suppress_tokens=[space, _TEXT_TOKENS],
        lang_to_id={f"<|{code}|>": _TEXT_TOKENS + 2 + index for index, code in enumerate(_LANGUAGES)},
        alignment_heads=[[1, 0], [1, 1]],
        eos_token_id=_TEXT_TOKENS,
        pad_token_id=_TEXT_TOKENS,
        decoder_start_token_id=_TEXT_TOKENS + 1,
    )
    return model


def _make_it_listen(model: WhisperForConditionalGeneration) -> None:
    """Lets sound and position decide: plain random weights give every clip one word, over and over.

    The last norm's gain makes the words about as certain as those of a trained model, near the thresholds of Whisper.
    """
    decoder = model.model.decoder
    model.model.encoder.conv2.weight *= 4
    for layer in decoder.layers:
        layer.encoder_attn.q_proj.weight *= 4
        layer.encoder_attn.v_proj.weight *= 3
        layer.encoder_attn.out_proj.weight *= 3
    decoder.embed_positions.weight *= 20
    # The first step names the language: with no position of its own, it hears the sound alone.
    decoder.embed_positions.weight[0] = 0
    decoder.layer_norm.weight *= 6


def _make_it_stop(model: WhisperForConditionalGeneration) -> None:
    """Raises the end token's score with the position, so that texts end after some ten tokens and not at 224."""
    decoder = model.model.decoder
    direction = torch.nn.functional.normalize(torch.randn(_WIDTH), dim=0)
    steps = torch.arange(len(decoder.embed_positions.weight))
    decoder.embed_positions.weight += steps.unsqueeze(1) * direction
    decoder.embed_tokens.weight[_TEXT_TOKENS] = 0.8 * direction


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE over made-up merges of letters, which spell any text and decode to letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(itertools.islice(_merges(), _TEXT_TOKENS - len(alphabet) - 1))
    # The empty token at the end is how CTranslate2 knows a multilingual Whisper.
    tokens = [*alphabet, *(left + right for left, right in merges), ""]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _special_tokens()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


def _special_tokens() -> tuple[str, ...]:
    languages = tuple(f"<|{code}|>" for code in _LANGUAGES)
    tasks = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")
    special = ("<|endoftext|>", "<|startoftranscript|>", *languages, *tasks)
    assert _TEXT_TOKENS + len(special) + _TIMESTAMPS == _VOCABULARY
    return special


def _merges() -> Iterator[tuple[str, str]]:
    """Pairs of letters, the same after a space, then triples and fours."""
    letters = string.ascii_lowercase
    pairs = [left + right for left in letters for right in letters]
    yield from ((pair[0], pair[1]) for pair in pairs)
    yield from (("Ġ", pair) for pair in pairs)
    yield from ((pair, letter) for pair in pairs for letter in letters)
    yield from ((left, right) for left in pairs for right in pairs)
