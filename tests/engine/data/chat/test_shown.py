"""Why a conversation becomes several rows, and the texts of their tokens."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.chat.conversations import chat_of
from engine.data.chat.rows import RowMaker
from engine.data.chat.shown import rewritten, texts
from tests.engine.data.chat.kinds import KINDS

THOUGHTFUL = [
    {"role": "system", "content": "简短"}, {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "2", "reasoning_content": "one and one"}, {"role": "user", "content": "再加 2？"},
    {"role": "assistant", "content": "4", "reasoning_content": "2+2"}, {"role": "user", "content": "ok?"},
    {"role": "assistant", "content": "好"},
]  # fmt: skip
TOKENIZER = KINDS["qwen3"].tokenizer()


def test_the_message_that_is_written_differently_is_named_with_both_ways() -> None:
    template, chat = KINDS["qwen3"].template(), chat_of(THOUGHTFUL)
    made = RowMaker(template, [], 10_000, "answers", "drop-turns").rows(chat)
    first, second, third = (rewritten(template, chat, made, number) for number in range(3))
    assert first is None
    assert second is not None
    assert third is not None
    assert (second.message, third.message) == (2, 4)
    assert second.before.startswith("<think>\none and one")
    assert second.after.startswith("2<|im_end|>")
    assert third.before.startswith("<think>\n2+2")
    assert third.after.startswith("4<|im_end|>")


def test_a_row_without_the_oldest_turns_is_not_called_rewritten() -> None:
    kind = KINDS["smollm2"]
    template = kind.template()
    chat = chat_of([{"role": role, "content": "long " * 9} for role in ("user", "assistant") * 4])
    made = RowMaker(template, [], 300, "answers", "drop-turns").rows(chat)
    assert len(made.rows) > 1
    assert [rewritten(template, chat, made, number) for number in range(len(made.rows))] == [None] * len(made.rows)


@given(st.text(max_size=30))
def test_the_texts_of_tokens_are_the_text_that_they_are_of(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    ids: list[int] = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    found = list(texts(TOKENIZER, ids))
    assert len(found) == len(ids)
    if "\ufffd" not in text:
        assert "".join(found) == text


def test_the_bytes_of_a_character_are_shown_with_its_first() -> None:
    ids: list[int] = TOKENIZER("你a<|im_end|>", add_special_tokens=False)["input_ids"]
    assert list(texts(TOKENIZER, ids)) == ["你", "", "", "a", "<|im_end|>"]


@pytest.mark.parametrize("cut", [1, 2])
def test_half_a_character_at_the_end_has_a_text_too(cut: int) -> None:
    ids: list[Any] = TOKENIZER("a你", add_special_tokens=False)["input_ids"][: 1 + cut]
    found = list(texts(TOKENIZER, ids))
    assert len(found) == len(ids)
    assert all(found)
