"""Texts as token ids, and how they are cut."""

import pytest
from transformers import PreTrainedTokenizerBase

from engine.data.encoding import cut, encode

EOS = 1
TEXTS = ["你好", "今天天气怎么样？", "hello", "谢谢"]


def test_texts_are_encoded_as_rows_are(tokenizer: PreTrainedTokenizerBase) -> None:
    """A prompt typed by hand gets the ids that a row of the data would."""
    assert encode(["你好", "今天天气怎么样？"], tokenizer) == [
        tokenizer("你好")["input_ids"],
        tokenizer("今天天气怎么样？")["input_ids"],
    ]
    assert encode([], tokenizer) == []


@pytest.mark.parametrize(
    ("limit", "expected"), [(2, [5, EOS]), (3, [5, 6, EOS]), (4, [5, 6, 7, EOS]), (9, [5, 6, 7, EOS])]
)
def test_cutting_keeps_the_end(limit: int, expected: list[int]) -> None:
    assert cut([5, 6, 7, EOS], limit) == expected


def test_ids_equal_those_of_transformers_own_call(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    right = [tokenizer(text)["input_ids"] for text in TEXTS]
    tokenizer(TEXTS, truncation=True, max_length=2, padding=True)  # leaves its settings behind
    assert encode(TEXTS, tokenizer) == right
    assert max(map(len, right)) > 2
