"""The text of a reply while it comes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.replying.reply_text import ReplyText


def by_bytes() -> PreTrainedTokenizerBase:
    """A tokenizer with a token a byte, as the smallest pieces of byte-level BPE are."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


BYTES = by_bytes()


def streamed(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """The pieces, with what was held back as the last."""
    reply = ReplyText(tokenizer)
    return [*(reply.add(token) for token in ids), reply.rest()]


@settings(deadline=None)
@given(st.text())
def test_a_character_comes_whole_or_not_yet(text: str) -> None:
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    pieces = streamed(BYTES, ids)
    assert "".join(pieces) == BYTES.decode(ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_the_bytes_of_a_character_are_held_back_until_its_last() -> None:
    ids = BYTES("好a", add_special_tokens=False)["input_ids"]
    assert streamed(BYTES, ids) == ["", "", "好", "a", ""]


def test_a_reply_that_ends_within_a_character_shows_that() -> None:
    ids = BYTES("好", add_special_tokens=False)["input_ids"]
    assert "".join(streamed(BYTES, ids[:2])) == BYTES.decode(ids[:2])


@settings(deadline=None)
@given(st.lists(st.integers(0, 255), max_size=12))
def test_any_bytes_end_as_the_text_of_all(ids: list[int]) -> None:
    reply = ReplyText(BYTES)
    pieces = [reply.add(token) for token in ids]
    assert "".join([*pieces, reply.rest()]) == reply.whole


@pytest.mark.parametrize("text", ["你好，今天天气很好。", "hello world", "a  b \n c", "１２３ Ａ"])
def test_pieces_of_words_join_to_the_text_of_all(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)
