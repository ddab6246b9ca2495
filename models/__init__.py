"""Tiny models of the real architectures with random weights, built locally: the engines are real, the words are noise."""
