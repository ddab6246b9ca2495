"""Pieces of a text hold all of it once, fit the encoder and end between words, whatever the tokenizer's kind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from actors.split_text import split_text

LETTERS = "abcdefgh"


def fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """With a limit and padding of its own, as the files of sentence encoders have them."""
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=5)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?", pad_token="?", model_max_length=5)


def word_pieces(*tokens: str) -> PreTrainedTokenizerFast:
    """BERT's kind: no accents, no case; a character of which it knows no token makes its word unknown."""
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(("?", *tokens))}, unk_token="?"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return fast(tokenizer)


def byte_pairs() -> PreTrainedTokenizerFast:
    """GPT-2's and Qwen's kind, without any merge: a token for each byte of UTF-8."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return fast(tokenizer)


def unigram() -> PreTrainedTokenizerFast:
    """XLM-R's kind: spaces are part of tokens, accents are composed."""
    tokenizer = Tokenizer(models.Unigram([("?", 0.0), *((letter, -1.0) for letter in LETTERS), ("▁", -1.0)], unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return fast(tokenizer)


WORDS = word_pieces(*LETTERS, *(f"##{letter}" for letter in LETTERS))
BYTES = byte_pairs()
KINDS = {"word pieces": WORDS, "byte pairs": BYTES, "unigram": unigram()}


def tokens(text: str, tokenizer: PreTrainedTokenizerFast) -> int:
    return len(tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"])


def letters(*texts: str) -> str:
    """All but white space."""
    return "".join("".join(texts).split())


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(
    text=st.text(st.sampled_from(LETTERS + "  \n\t-é\u0301\u200d狗🦄"), max_size=60).map(str.strip),
    budget=st.integers(4, 20),
)
def test_pieces_fit_and_hold_each_character_once(kind: str, text: str, budget: int) -> None:
    """Four tokens are the most that one of these characters takes."""
    tokenizer = KINDS[kind]
    pieces = split_text(text, tokenizer, budget)
    assert letters(*pieces) == letters(text)
    assert all(piece == piece.strip() for piece in pieces)
    if tokens(text, tokenizer) <= budget:
        assert pieces == [text]
    else:
        assert all(pieces)
        assert all(tokens(piece, tokenizer) <= budget for piece in pieces)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=40), budget=st.integers(6, 20))
def test_words_that_fit_are_never_cut(lengths: list[int], budget: int) -> None:
    words = [LETTERS[:length] for length in lengths]
    pieces = split_text(" ".join(words), WORDS, budget)
    assert [word for piece in pieces for word in piece.split()] == words


@settings(deadline=None)
@given(words=st.integers(1, 200), budget=st.integers(1, 30))
def test_pieces_are_as_few_and_as_equal_as_can_be(words: int, budget: int) -> None:
    sizes = [len(piece.split()) for piece in split_text(" ".join(["a"] * words), WORDS, budget)]
    assert len(sizes) == -(-words // budget)
    assert max(sizes) - min(sizes) <= 1


def test_a_text_that_just_fits_is_one_piece() -> None:
    assert split_text("a b  c", WORDS, 3) == ["a b  c"]
    assert split_text("a b  c", WORDS, 2) == ["a b", "c"]
    assert split_text("", WORDS, 1) == [""]


def test_a_word_beyond_the_budget_is_cut_alone() -> None:
    assert split_text("ab cdefgh ab", WORDS, 4) == ["ab", "cdef", "gh ab"]


def test_a_cut_word_that_takes_more_tokens_than_inside_the_whole_is_cut_earlier() -> None:
    tokenizer = word_pieces("a", "b", "##bc", "##c")
    assert [tokens(text, tokenizer) for text in ("abcbc", "bcbc", "bc")] == [3, 3, 2]
    assert split_text("abcbcbc", tokenizer, 2) == ["abc", "bc", "bc"]


def test_a_character_of_several_tokens_is_cut_between_none_of_them() -> None:
    assert [tokens(text, BYTES) for text in ("狗", "🦄")] == [3, 4]
    assert split_text("狗狗狗狗", BYTES, 5) == ["狗", "狗", "狗", "狗"]
    assert split_text("狗狗狗狗", BYTES, 7) == ["狗狗", "狗狗"]
    assert split_text("a🦄b", BYTES, 2) == ["a", "🦄", "b"], "one that fits nowhere stays whole"


def test_what_no_token_stands_for_stays_with_its_letter() -> None:
    assert split_text("e\u0301 a\u0301\u0301 b", WORDS, 1) == ["e\u0301", "a\u0301\u0301", "b"]


@pytest.mark.parametrize("budget", [0, -3])
def test_an_encoder_without_room_is_refused(budget: int) -> None:
    with pytest.raises(ValueError, match=f"^the encoder leaves no room for text: {budget} tokens$"):
        split_text("a", WORDS, budget)
