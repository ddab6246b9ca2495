"""Tiny models of the real architectures with random weights: the engines are real, the words are noise."""
