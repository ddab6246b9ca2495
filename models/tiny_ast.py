"""A tiny Audio Spectrogram Transformer with a dozen of AudioSet's labels."""

from pathlib import Path

import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

LABELS = (
    "Speech",
    "Laughter",
    "Singing",
    "Music",
    "Guitar",
    "Drum",
    "Applause",
    "Dog",
    "Bird",
    "Vehicle",
    "Water",
    "Silence",
)
"""Names as AudioSet's ontology spells them (Gemmeke et al., ICASSP 2017)."""


def build_ast(out: Path) -> None:
    """Writes a model and a feature extractor of MIT/ast-finetuned-audioset's shape: 1,024 frames of 128 mel bins.

    Args:
        out: An existing empty folder.
    """
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_length=1024,
        num_mel_bins=128,
        frequency_stride=32,
        time_stride=32,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
        # The published 0.02 leaves every sound with almost the same scores at this size.
        initializer_range=0.2,
    )
    model = ASTForAudioClassification(config).eval()
    model.save_pretrained(out)
    ASTFeatureExtractor(max_length=1024, num_mel_bins=128).save_pretrained(out)
