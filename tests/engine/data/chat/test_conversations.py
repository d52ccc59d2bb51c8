"""Conversations as data files hold them: what is carried to the template, and what is refused by name."""

import json
from datetime import datetime
from typing import Any

import pytest

from engine.data.chat.conversations import MOST_MESSAGES, chat_of, chat_of_conversation
from engine.data.shapes.account import RefusedError
from engine.data.shapes.conversation import Conversation, Turn

ASK, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
HI = [Turn("user", "Hi"), Turn("assistant", "Hello")]
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
        (b"", "column_not_list:messages"),
        ("not JSON", "column_not_list:messages"),
        ('{"role": "user"}', "column_not_list:messages"),
        ([], "messages_empty"),
        ([7], "turn_not_object"),
        ([{"content": "Hi"}], "turn_without_role:content"),
        ([{"role": "owl", "content": "Hi"}, ANSWER], "unknown_role:owl"),
        ([ASK], "no_answer"),
        ([ANSWER, ASK], "no_answer"),
        ([ASK, ANSWER | {"weight": 0}], "answer_unlearned"),
        ([ANSWER | {"weight": 0}, ASK, ANSWER | {"weight": 0}], "answer_unlearned"),
        ([ASK, ANSWER | {"content": ""}], "response_empty"),
        ([ASK, ANSWER | {"content": None}], "response_empty"),
        ([ASK | {"content": " \n"}, ANSWER], "prompt_empty"),
        ([ASK | {"content": True}, ANSWER], "turn_not_text:true"),
        ([ASK | {"content": [{"type": "image", "url": "x"}]}, ANSWER], "turn_part:image"),
        ([ASK, ANSWER | {"reasoning_content": {"x": 1}}], "turn_not_text:object"),
        ([ASK, ANSWER | {"tool_calls": "x"}], "turn_calls_unclear:tool_calls"),
        ([ASK, ANSWER | {"tool_calls": [{"function": {"arguments": "{}"}}]}], "turn_calls_unclear:tool_calls"),
        ([ASK, ANSWER | {"function_call": {"name": "\ud800"}}], "turn_not_utf8"),
        ([ASK | {"content": "x" * (1 << 22)}, ANSWER], "conversation_long:4,194,304"),
    ],
)
def test_what_is_not_a_conversation_is_refused_by_name(messages: Any, why: str) -> None:
    with pytest.raises(RefusedError) as refused:
        chat_of(messages)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        ("x", "tools_unclear:tools"),
        ([1], "tools_unclear:tools"),
        ([{"name": "f", "since": datetime(2026, 1, 1)}], "tools_unclear:tools"),
        ([{"name": "f", "data": b"x"}], "tools_unclear:tools"),
        ('[{"name": "\\ud800"}]', "turn_not_utf8"),
    ],
)
def test_tools_that_no_template_can_read_are_refused(tools: Any, why: str) -> None:
    """A column of a table can hold dates and bytes, and JSON can hold half of a surrogate pair."""
    with pytest.raises(RefusedError) as refused:
        chat_of([ASK, ANSWER], tools)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "human", "content": "Hi"}, {"role": "gpt", "content": "Hello"}],
        json.dumps([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]),
        [{"human": "Hi", "assistant": "Hello"}],
        ["Hi", "Hello"],
    ],
)
def test_every_form_that_an_import_reads_is_read(messages: Any) -> None:
    assert chat_of(messages).messages == (ASK, ANSWER)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "", "function_call": CALL["function"]},
        {"role": "assistant", "content": "", "tool_calls": json.dumps([CALL])},
        {"role": "function_call", "content": json.dumps(CALL["function"])},
    ],
)
def test_a_call_in_every_form_reaches_the_template(message: dict[str, Any]) -> None:
    chat = chat_of([ASK, message, {"role": "tool", "content": "2"}, ANSWER])
    assert chat.messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}


def test_messages_stay_apart_and_have_their_roles_and_names() -> None:
    said = [{"role": "developer", "content": "S"}, ASK | {"name": "Eve"}, ASK, ANSWER, ANSWER]
    assert chat_of(said).messages == tuple(said)
    assert (chat_of(said).head, chat_of(said).answers) == (1, (3, 4))


def test_an_answer_to_nothing_is_context() -> None:
    chat = chat_of([ANSWER, ASK, ANSWER])
    assert (chat.answers, chat.messages, chat.notices) == ((2,), (ANSWER, ASK, ANSWER), ("answer_first",))
    assert chat_of_conversation(Conversation.of([Turn("assistant", "Hello"), *HI])).answers == (2,)
    assert chat_of([{"role": "system", "content": "S"}, ANSWER]).answers == (1,)


@pytest.mark.parametrize("empty", [ANSWER | {"content": " "}, ASK | {"content": None}])
def test_a_conversation_ends_at_an_empty_turn(empty: dict[str, Any]) -> None:
    chat = chat_of([ASK, ANSWER, empty, ASK, ANSWER])
    assert (chat.messages, chat.notices) == ((ASK, ANSWER), ("turn_empty",))


def test_what_is_read_in_a_certain_way_is_noted() -> None:
    chat = chat_of([ASK | {"content": 5}, ANSWER | {"weight": 0}, ASK, ANSWER])
    assert chat.messages[0]["content"] == "5"
    assert chat.notices == ("number_as_text", "answer_unlearned")


def test_of_a_very_long_conversation_the_first_messages_are_used() -> None:
    most = [ASK, ANSWER] * (MOST_MESSAGES // 2)
    assert len(chat_of(most).answers) == MOST_MESSAGES // 2
    longer = chat_of([*most, ASK, ANSWER])
    assert (longer.messages, longer.notices) == (tuple(most), ("messages_many:1,024",))


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
