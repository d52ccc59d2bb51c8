"""Texts tokenized in pieces have the ids that they have as a whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.data.chat.pieces import Pieces
from tests.engine.data.chat.kinds import byte_tokenizer

TEXTS = st.lists(
    st.sampled_from(["<|a|>", "<|b|>", "<|ab|>", "<p>", "\n", " ", "an", "x", "<|", "|>", "é", "word"])
).map("".join)


def unigram(scheme: str) -> PreTrainedTokenizerFast:
    """SentencePiece's kind: a mark before words, and by `scheme` before the first one of a text, or of each piece."""
    pieces = ["<unk>", "</s>", *"anxwordé<|>\nbp", "▁", "▁an", "▁word", "an"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(len(pieces) - at)) for at, piece in enumerate(pieces)], 0))
    if scheme == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken(one, normalized=False) for one in ("</s>", "<|a|>", "<|b|>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>")


def stripping() -> PreTrainedTokenizerFast:
    """Some added tokens take the white space around them."""
    made = byte_tokenizer("<|a|>", eos="</s>")
    made.add_tokens(
        [AddedToken("<|b|>", rstrip=True, normalized=False), AddedToken("<p>", lstrip=True, normalized=False)]
    )
    made.add_tokens([AddedToken("word", normalized=True, single_word=True)])
    return made


TOKENIZERS = {
    "bytes": byte_tokenizer("<|a|>", "<|b|>", eos="</s>"),
    "bytes across words": byte_tokenizer("<|a|>", "<|b|>", eos="</s>", words=""),
    "longer tokens": byte_tokenizer("<|a|>", "<|ab|>", "<|b|>", "|>x", eos="</s>"),
    "tokens that strip": stripping(),
    **{f"unigram {scheme}": unigram(scheme) for scheme in ("first", "always", "never", "normalizer")},
}


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, prompt=TEXTS)
def test_pieces_have_the_ids_of_the_whole(name: str, text: str, prompt: str) -> None:
    tokenizer = TOKENIZERS[name]
    pieces = Pieces(tokenizer, ["<|a|><|b|><p>"])
    pieces.learn([text])
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert pieces.ids(text) == whole
    answer = pieces.behind(prompt, pieces.ids(prompt), text)
    both = tokenizer(prompt + text, add_special_tokens=False)["input_ids"]
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if both[: len(before)] == before:
        assert answer == both[len(before) :]
    else:
        assert tokenizer.decode(answer) == text or not name.startswith("bytes")


def test_only_tokens_that_nothing_else_can_cover_are_cut_at() -> None:
    samples = ["<|a|><|b|><p>"]
    anchors = {name: sorted(Pieces(one, samples)._anchors) for name, one in TOKENIZERS.items()}
    assert anchors["bytes"] == ["<|a|>", "<|b|>"]
    assert anchors["tokens that strip"] == ["<|a|>"]
    assert anchors["longer tokens"] == []


def test_a_text_behind_a_prompt_has_no_space_before_its_first_word() -> None:
    """As some tokenizers put one before every text that they are given."""
    pieces = Pieces(TOKENIZERS["unigram first"], ["<|a|>"])
    tokens = TOKENIZERS["unigram first"].convert_ids_to_tokens
    assert tokens(pieces.behind("an<|a|>", pieces.ids("an<|a|>"), "word</s>")) == ["w", "o", "r", "d", "</s>"]
    assert tokens(pieces.ids("word")) == ["▁word"]
