"""Conversations in MOSS's format."""

from typing import Any

import pytest

from engine.data.shapes.account import RefusedError
from engine.data.shapes.moss import is_moss, moss_turns

ONE = {"Human": "<|Human|>: 你好<eoh>\n", "MOSS": "<|MOSS|>: 你好！<eom>\n"}


def said(value: Any) -> list[str]:
    notices: list[str] = []
    return [turn.text for turn in moss_turns(value, "chat", notices)] + notices


def test_turns_come_in_the_order_of_their_numbers_without_marks() -> None:
    turns = {f"turn_{n}": {"Human": f"<|Human|>: 问{n}<eoh>", "MOSS": f"答{n}"} for n in (10, 2, 1)}
    assert said(turns) == ["问1", "答1", "问2", "答2", "问10", "答10"]


def test_a_turn_that_a_table_left_empty_is_skipped() -> None:
    assert said({"turn_1": ONE, "turn_2": None}) == ["你好", "你好！"]


@pytest.mark.parametrize(("thoughts", "kept"), [("<|Inner Thoughts|>: 想<eot>", "想"), ("None<eot>", "")])
def test_thoughts_are_the_reasoning_of_an_answer(thoughts: str, kept: str) -> None:
    turns = list(moss_turns({"turn_1": {**ONE, "Inner Thoughts": thoughts}}, "chat", []))
    assert [turn.reasoning for turn in turns] == ["", kept]


@pytest.mark.parametrize("name", ["Commands", "Tool Responses"])
def test_a_turn_that_calls_tools_refuses_the_record(name: str) -> None:
    with pytest.raises(RefusedError, match=f"turn_calls_tools:{name}"):
        said({"turn_1": {**ONE, name: "<|Commands|>: Search('x')<eoc>"}})


@pytest.mark.parametrize("value", [{}, [], {"turn_x": ONE}, {"turn_1": "你好"}, "{", "[" * 10_000, None, 3])
def test_something_else_is_not_such_a_conversation(value: Any) -> None:
    assert not is_moss(value)
    with pytest.raises(RefusedError, match="column_not_list:chat"):
        said(value)
