"""Conversations as data files hold them: what is carried to the template, and what is refused by name."""

import json
from typing import Any

import pytest

from engine.data.chat.conversations import MOST_ANSWERS, MOST_MESSAGES, chat_of, chat_of_conversation
from engine.data.shapes.account import RefusedError
from engine.data.shapes.conversation import Conversation, Turn

ASK, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


def test_a_conversation_is_its_messages_and_its_answers() -> None:
    chat = chat_of([{"role": "system", "content": "S"}, ASK, ANSWER, ASK, ANSWER, ASK])
    assert (chat.head, chat.answers, chat.exchanges()) == (1, (2, 4), [1, 3, 5])
    assert chat_of(json.dumps([ASK, ANSWER])).messages == (ASK, ANSWER)


def test_nulls_of_a_table_are_not_part_of_a_message() -> None:
    bare = dict.fromkeys(("name", "tool_calls", "tool_call_id", "reasoning_content", "weight"))
    assert chat_of([ASK | bare, ANSWER | bare]).messages == (ASK, ANSWER)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_are_carried_under_one_name(name: str) -> None:
    assert chat_of([ASK, ANSWER | {name: "Hm"}]).messages[1] == ANSWER | {"reasoning_content": "Hm"}


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}'])
def test_arguments_of_calls_are_objects(arguments: Any) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    asked = [ASK, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": ""}, ANSWER]
    chat = chat_of(asked, json.dumps([{"type": "function", "function": {"name": "add"}}]))
    assert chat.messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert chat.tools == ({"type": "function", "function": {"name": "add"}},)
    assert chat.answers == (1, 3)


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert chat_of([ASK, ANSWER | {"content": parts}]).messages[1] == ANSWER


@pytest.mark.parametrize("weight", ["weight", "loss", "train"])
def test_an_answer_marked_as_not_to_be_learned_is_history(weight: str) -> None:
    chat = chat_of([ASK, ANSWER | {weight: 0}, ASK, ANSWER | {weight: 1}])
    assert chat.answers == (3,)
    assert chat.messages == (ASK, ANSWER, ASK, ANSWER)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        (None, "messages_null"),
        (b"", "messages_not_utf8"),
        ("not JSON", "messages_not_list"),
        ('{"role": "user"}', "messages_not_list"),
        ([], "messages_empty"),
        (["Hi"], "turn_not_object"),
        ([{"content": "Hi"}], "turn_without_role:-"),
        ([{"role": "human", "content": "Hi"}, ANSWER], "unknown_role:human"),
        ([ASK], "no_answer"),
        ([ASK, ANSWER | {"weight": 0}], "answer_unlearned"),
        ([ASK, ANSWER | {"content": ""}], "response_empty"),
        ([ASK, ANSWER | {"content": None}], "response_empty"),
        ([ASK | {"content": " \n"}, ANSWER], "prompt_empty"),
        ([ASK | {"content": 5}, ANSWER], "turn_not_text:int"),
        ([ASK | {"content": [{"type": "image", "url": "x"}]}, ANSWER], "turn_part:image"),
        ([ASK, ANSWER | {"reasoning_content": ["Hm"]}], "turn_part:reasoning_content"),
        ([ASK, ANSWER | {"tool_calls": "x"}], "tool_calls_not_list"),
        ([ASK, ANSWER | {"tool_calls": ["x"]}], "tool_calls_not_list"),
        ([ASK, ANSWER] * (MOST_ANSWERS + 1), f"answers_many:{MOST_ANSWERS}"),
        ([ASK] * (MOST_MESSAGES + 1), f"messages_many:{MOST_MESSAGES}"),
        ([ASK | {"content": "x" * (1 << 22)}, ANSWER], "conversation_long:4,194,304"),
    ],
)
def test_what_is_not_a_conversation_is_refused_by_name(messages: Any, why: str) -> None:
    with pytest.raises(RefusedError) as refused:
        chat_of(messages)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("tools", "why"), [("x", "tools_not_list"), ({}, "tools_not_list"), ([1], "tools_not_objects")]
)
def test_tools_that_are_not_a_list_of_objects_are_refused(tools: Any, why: str) -> None:
    with pytest.raises(RefusedError) as refused:
        chat_of([ASK, ANSWER], tools)
    assert str(refused.value) == why


def test_a_pair_is_a_conversation_with_the_turns_before_its_question() -> None:
    assert chat_of_conversation(Conversation.of_pair("Hi", "Hello")).messages == (ASK, ANSWER)
    chat = chat_of_conversation(Conversation.of_pair("S\nQ: Hi\nA: Hello\nQ: Hi", "Hello", [2, 8, 17]))
    assert chat.messages == ({"role": "system", "content": "S"}, ASK, ANSWER, ASK, ANSWER)
    assert chat.answers == (4,)


def test_an_imported_conversation_keeps_all_that_it_has() -> None:
    called = Turn("assistant", "", reasoning="Hm", calls=json.dumps([CALL]))
    turns = [Turn("user", "Hi"), called, Turn("tool", "2", name="add"), Turn("assistant", "Hello")]
    chat = chat_of_conversation(Conversation(turns=turns, tools=json.dumps([{"name": "add"}])))
    asked = {"role": "assistant", "content": "", "reasoning_content": "Hm", "tool_calls": [CALL]}
    assert chat.messages == (ASK, asked, {"role": "tool", "content": "2", "name": "add"}, ANSWER)
    assert chat.tools == ({"name": "add"},)
