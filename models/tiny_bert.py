"""A tiny sentence encoder of BGE's shape: BERT, the [CLS] vector, normalised to unit length."""

import json
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MAX_TOKENS = 64
_WIDTH = 64


def build_bert(out: Path) -> None:
    """Writes a sentence-transformers model of 64 dimensions that takes 64 tokens at most.

    The modules are those of BAAI/bge-large-en-v1.5: Transformer, CLS pooling, Normalize.

    Args:
        out: An existing empty folder.
    """
    _tokenizer().save_pretrained(out)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * _WIDTH,
        max_position_embeddings=_MAX_TOKENS,
        # BERT's 0.02 leaves every text with almost the same [CLS] vector at this size.
        initializer_range=0.3,
    )
    BertModel(config).eval().save_pretrained(out)
    _write_modules(out)


def _vocabulary() -> dict[str, int]:
    """Single characters, whole and continued: every ASCII text splits without an unknown token."""
    characters = [c for c in string.printable if not c.isspace() and not c.isupper()]
    tokens = [*_SPECIAL_TOKENS, *characters, *(f"##{c}" for c in string.ascii_lowercase + string.digits)]
    return {token: index for index, token in enumerate(tokens)}


def _tokenizer() -> PreTrainedTokenizerFast:
    """BERT's own normaliser, splitter and word pieces over the small vocabulary."""
    vocabulary = _vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=_MAX_TOKENS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _write_modules(out: Path) -> None:
    """The files by which sentence-transformers knows the modules and their order."""
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": _WIDTH, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (out / "1_Pooling").mkdir()
    (out / "2_Normalize").mkdir()
    (out / "modules.json").write_text(json.dumps(modules, indent=2))
    (out / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": _MAX_TOKENS, "do_lower_case": True}))
    (out / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2))
