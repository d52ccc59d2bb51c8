"""Conversations as a data file holds them: checked, bounded, and in the form that chat templates read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.data.shapes.account import RefusedError
from engine.data.shapes.conversation import Conversation
from engine.data.shapes.turns import TEXT_PARTS, THOUGHTS, WEIGHTS
from engine.data.shapes.values import kind_of, text_of

ROLES = ("system", "developer", "user", "assistant", "tool")
LEADING = ("system", "developer")  # at the beginning of a conversation they are never left out
TEXTS = ("name", "tool_call_id")  # what a message may have next to its content, carried to the template as it is
MOST_MESSAGES = 512
MOST_ANSWERS = 128  # of a conversation: each is rendered with all that comes before it
MOST_CHARACTERS = 1 << 22  # of a conversation
TEMPLATE_MESSAGE = dict[str, Any]


@dataclass(frozen=True)
class Chat:
    """The messages of a conversation and the tools that its model may call; which messages are answers to learn."""

    messages: tuple[TEMPLATE_MESSAGE, ...]
    tools: tuple[dict[str, Any], ...] | None
    answers: tuple[int, ...]
    characters: int

    @property
    def head(self) -> int:
        """How many system texts it begins with."""
        return next((at for at, one in enumerate(self.messages) if one["role"] not in LEADING), len(self.messages))

    def texts(self, role: str = "") -> Iterator[str]:
        """The contents of all messages, or of those of a role."""
        return (one["content"] for one in self.messages if one["role"] == role or not role)

    def exchanges(self) -> list[int]:
        """Where the exchanges after the system texts begin: at each message of a user, and at the first one."""
        starts = [at for at, one in enumerate(self.messages) if one["role"] == "user" and at > self.head]
        return [self.head, *starts]


def chat_of(messages: Any, tools: Any = None) -> Chat:
    """The conversation of a row: a list of messages, and of tools, or JSON of them; raises RefusedError."""
    listed = _listed(messages, "messages")
    if len(listed) > MOST_MESSAGES:
        raise RefusedError("messages_many", str(MOST_MESSAGES))
    answers, made = [], []
    for at, one in enumerate(listed):
        message, learned = _message(one)
        made.append(message)
        if message["role"] == "assistant" and learned:
            answers.append(at)
    found = _listed(tools, "tools") if tools not in (None, "", b"") else []
    if not all(isinstance(one, Mapping) for one in found):
        raise RefusedError("tools_not_objects")
    return _bounded(made, list(map(dict, found)), answers)


def chat_of_conversation(conversation: Conversation) -> Chat:
    """The conversation that an import would make of a row, or of a pair of texts; raises RefusedError."""
    messages, answers = [], []
    for at, turn in enumerate(conversation.all_turns):
        more = {"reasoning_content": turn.reasoning, "name": turn.name, "tool_call_id": turn.call_id}
        message = {"role": turn.role, "content": turn.text, **{name: text for name, text in more.items() if text}}
        messages.append(message | ({"tool_calls": json.loads(turn.calls)} if turn.calls else {}))
        if turn.role == "assistant" and turn.learned:
            answers.append(at)
    return _bounded(messages, json.loads(conversation.tools) if conversation.tools else [], answers)


def _bounded(messages: list[TEMPLATE_MESSAGE], tools: list[dict[str, Any]], answers: list[int]) -> Chat:
    """The conversation, if it has an answer to learn and is not beyond any measure."""
    if not any(one["role"] == "assistant" for one in messages):
        raise RefusedError("no_answer")
    if not answers:
        raise RefusedError("answer_unlearned")
    if len(answers) > MOST_ANSWERS:
        raise RefusedError("answers_many", str(MOST_ANSWERS))
    characters = len(json.dumps([messages, tools], ensure_ascii=False))
    if characters > MOST_CHARACTERS:
        raise RefusedError("conversation_long", f"{MOST_CHARACTERS:,}")
    return Chat(tuple(messages), tuple(tools) or None, tuple(answers), characters)


def _listed(value: Any, what: str) -> list[Any]:
    """A list, or the list that a JSON text holds."""
    if value is None:
        raise RefusedError(f"{what}_null")
    if isinstance(value, bytes):
        raise RefusedError(f"{what}_not_utf8")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RefusedError(f"{what}_not_list") from None
    if not isinstance(value, list):
        raise RefusedError(f"{what}_not_list")
    if what == "messages" and not value:
        raise RefusedError("messages_empty")
    return value


def _message(value: Any) -> tuple[TEMPLATE_MESSAGE, bool]:
    """A message as templates read it, and whether it may be learned; raises RefusedError."""
    if not isinstance(value, Mapping):
        raise RefusedError("turn_not_object")
    role = value.get("role")
    if role not in ROLES:
        raise (
            RefusedError("unknown_role", str(role)[:20]) if role is not None else RefusedError("turn_without_role", "-")
        )
    message: TEMPLATE_MESSAGE = {"role": role, "content": _content(value.get("content"))}
    calls = value.get("tool_calls")
    if calls not in (None, "", []):
        message["tool_calls"] = _calls(calls)
    _require_content(message)
    for name, text in _texts(value):
        message[name] = text
    return message, not any(value.get(weight) is not None and not value[weight] for weight in WEIGHTS)


def _texts(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a message has next to its content: the thoughts before an answer, under their first name, and names."""
    thoughts = next((value[name] for name in THOUGHTS if value.get(name) is not None), None)
    named = {"reasoning_content": thoughts, **{name: value.get(name) for name in TEXTS}}
    for name, text in named.items():
        if text is not None:
            if not isinstance(text, str):
                raise RefusedError("turn_part", name)
            yield name, text_of(text, "turn", []) or ""


def _require_content(message: TEMPLATE_MESSAGE) -> None:
    if message["content"].strip() or message["role"] not in ("user", "assistant") or "tool_calls" in message:
        return
    raise RefusedError("prompt_empty" if message["role"] == "user" else "response_empty")


def _content(value: Any) -> str:
    """The text of a message, which may come in parts of text."""
    if isinstance(value, list):
        return "".join(map(_part, value))
    if value is not None and not isinstance(value, str):
        raise RefusedError("turn_not_text", kind_of(value))
    return text_of(value, "turn", []) or ""


def _part(part: Any) -> str:
    if not isinstance(part, Mapping) or part.get("type", "text") not in TEXT_PARTS:
        raise RefusedError("turn_part", str(part.get("type")) if isinstance(part, Mapping) else kind_of(part))
    return _content(part.get("text"))


def _calls(value: Any) -> list[dict[str, Any]]:
    """Calls of tools, whose arguments templates expect as objects and not as the JSON of them."""
    calls = []
    for call in _listed(value, "tool_calls"):
        if not isinstance(call, Mapping):
            raise RefusedError("tool_calls_not_list")
        made = dict(call)
        if isinstance(made.get("function"), Mapping):
            made["function"] = _with_arguments(dict(made["function"]))
        calls.append(_with_arguments(made))
    return calls


def _with_arguments(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return function
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return function
    return {**function, "arguments": found} if isinstance(found, dict) else function
