"""Splits a text into pieces that an encoder takes whole."""

from typing import Any


def split_text(text: str, tokenizer: Any, budget: int) -> list[str]:  # noqa: ANN401 - transformers ships no types
    """Pieces of at most `budget` tokens, of about equal length, cut between words wherever a word fits.

    All of the text is in them but white space at the cuts; a character that takes more than the budget stays whole.

    Equal lengths keep the mean of the pieces' vectors from giving a short last piece as much weight as a full one.

    Args:
        text: A text that does not start or end with white space.
        tokenizer: A fast tokenizer of transformers.
        budget: Tokens that fit beside the special ones.

    Returns:
        The text itself where it fits.

    Raises:
        ValueError: The budget is below one token.
    """
    if budget < 1:
        raise ValueError(f"the encoder leaves no room for text: {budget} tokens")
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False)
    offsets: list[tuple[int, int]] = encoding["offset_mapping"]
    if len(offsets) <= budget:
        return [text]
    words = encoding.word_ids()
    # Each piece goes on to where the next one's first token begins: a character of several tokens (as of byte pairs)
    # comes once, and one that no token stands for is not lost.
    begins = [*(begin for begin, _ in offsets[1:]), len(text)]
    pieces = []
    start = begin = 0
    while start < len(offsets):
        end = _cut(words, start, budget)
        piece = text[begin : begins[end - 1]].strip()
        # A word cut in two can take more tokens than its parts did inside the whole.
        while end - start > 1 and _length(piece, tokenizer) > budget:
            end -= 1
            piece = text[begin : begins[end - 1]].strip()
        if piece:
            pieces.append(piece)
        start, begin = end, begins[end - 1]
    return pieces


def _cut(words: list[int | None], start: int, budget: int) -> int:
    """Where the piece that begins at token `start` ends: at the word's end nearest to an equal share of the rest."""
    left = len(words) - start
    if left <= budget:
        return len(words)
    share = -(-left // -(-left // budget))
    bounds = [end for end in range(start + 1, start + budget + 1) if words[end] != words[end - 1]]
    if not bounds:
        return start + budget
    return next((end for end in bounds if end >= start + share), bounds[-1])


def _length(text: str, tokenizer: Any) -> int:  # noqa: ANN401 - transformers ships no types
    return len(tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])
