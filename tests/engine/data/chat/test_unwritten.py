"""What a chat template leaves out of a conversation."""

import pytest

from engine.data.chat.conversations import chat_of
from engine.data.chat.templates import ChatTemplate
from engine.data.chat.unwritten import parts_of, unwritten_parts
from tests.engine.data.chat.kinds import KINDS, Kind

EVERYTHING = {"tools", "tool_calls", "reasoning_content"}
REFUSES = Kind("{{ raise_exception('no') }}", "</s>")


def template_of(kind: Kind) -> ChatTemplate:
    return ChatTemplate.of(kind.tokenizer(), "", "")


@pytest.mark.parametrize(
    ("kind", "unwritten"),
    [
        (KINDS["chatml"], EVERYTHING),
        (KINDS["qwen2.5"], {"reasoning_content"}),
        (KINDS["qwen3"], {"tools"}),
        (REFUSES, set()),
    ],
)
def test_what_a_template_does_not_write_is_known(kind: Kind, unwritten: set[str]) -> None:
    assert unwritten_parts(template_of(kind)) == unwritten


def test_a_conversation_has_the_parts_that_are_not_empty() -> None:
    asked, answer = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
    assert list(parts_of(chat_of([asked, answer | {"reasoning_content": ""}]))) == []
    full = answer | {"reasoning_content": "Hm", "tool_calls": [{"function": {"name": "f"}}]}
    assert set(parts_of(chat_of([asked, full], [{"name": "f"}]))) == EVERYTHING
