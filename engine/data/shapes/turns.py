"""Turns of a conversation in their usual forms: roles with texts, pairs, lists of texts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.data.shapes.account import RefusedError
from engine.data.shapes.columns import Columns, blank, listlike
from engine.data.shapes.conversation import Role, Turn
from engine.data.shapes.tools import calls_of
from engine.data.shapes.values import text_of

ROLES: dict[Role, tuple[str, ...]] = {
    "user": ("user", "human", "prompter", "usr", "customer", "client", "用户", "人类", "问", "客户"),
    "assistant": (
        "assistant", "gpt", "bot", "bing", "chatgpt", "model", "ai", "chatbot", "bard", "claude",
        "助手", "机器人", "答",
    ),
    "system": ("system", "developer", "系统"),
}  # fmt: skip
# What a tool returned, and a model's call of one that has a turn of its own.
RESULT_ROLES = ("tool", "tools", "function", "tool_response", "observation", "ipython")
CALL_ROLES = ("function_call", "tool_call")
ROLE_OF = {name: role for role, names in ROLES.items() for name in names}
ROLE_KEYS = ("role", "from", "speaker")
TEXT_KEYS = ("content", "value", "text", "parts")
CALLS = ("tool_calls", "function_call")  # of an answer
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
WEIGHTS = ("weight", "loss", "train")  # of an answer: 0 or false if it is not to be learned
TEXT_PARTS = ("text", "input_text", "output_text")


def turns_of(value: Any, column: str, notices: list[str]) -> Iterator[Turn]:
    """The turns of a column's value, a list or its JSON; raises RefusedError. Adds codes to `notices`."""
    items = listed(value, column)
    if all(isinstance(item, str) for item in items):
        for place, text in enumerate(items):
            yield Turn("assistant" if place % 2 else "user", text)
        return
    for item in items:
        if isinstance(item, Mapping):
            yield from _turns_of_object(item, notices)
        elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
            yield from _both(item[0], item[1], notices)
        else:
            raise RefusedError("turn_not_object")


def listed(value: Any, column: str) -> list[Any]:
    """The value as a list, parsed from JSON if it is a text; raises RefusedError if it is not one."""
    if not listlike(value):
        raise RefusedError("column_not_list", column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RefusedError("column_not_list", column) from None
    if isinstance(value, Mapping):  # a list of objects, stored by columns
        return [dict(zip(value, parts, strict=True)) for parts in zip(*value.values(), strict=True)]
    return list(value)


def is_turns(value: Any) -> bool:
    """Whether a value is a list of objects with roles."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(item, Mapping) and _first(item, ROLE_KEYS) is not None for item in value)


def _turns_of_object(item: Mapping[str, Any], notices: list[str]) -> Iterator[Turn]:
    role = _first(item, ROLE_KEYS)
    if role is not None:
        yield turn_of(item, notices)
        return
    columns = Columns(item)
    asking, answering = columns.first("question", "asker", "instruction", "input"), columns.first("answer", "answerer")
    if columns.name(asking) is None and columns.name(answering) is None:
        raise RefusedError("turn_without_role", columns.listed())
    if columns.has("system"):
        yield Turn("system", text_of(columns.get("system"), "prompt", notices) or "")
    question = text_of(columns.get(asking), "prompt", notices)
    if asking != "input" and columns.has("input"):
        question = f"{question or ''}\n{text_of(columns.get('input'), 'prompt', notices)}"
    yield from _both(question, columns.get(answering), notices)


def _both(question: Any, answer: Any, notices: list[str]) -> Iterator[Turn]:
    if not blank(question):  # a model's greeting has no question
        yield Turn("user", text_of(question, "prompt", notices) or "")
    yield Turn("assistant", text_of(answer, "response", notices) or "")


def turn_of(item: Mapping[str, Any], notices: list[str]) -> Turn:
    """The turn of an object with a role; raises RefusedError. Adds codes to `notices`."""
    name = str(_first(item, ROLE_KEYS)).strip().casefold()
    learned = not any(item.get(weight) is not None and not item[weight] for weight in WEIGHTS)
    if name in CALL_ROLES:
        calls = calls_of(_first(item, TEXT_KEYS), name)
        return Turn("assistant", "", learned, calls=calls, beyond=f"role_of_tools:{name}")
    text = _content(_first(item, TEXT_KEYS), notices)
    said_by, call = (text_of(item.get(key), "turn", notices) or "" for key in ("name", "tool_call_id"))
    if name in RESULT_ROLES:
        return Turn("tool", text, name=said_by, call_id=call, beyond=f"role_of_tools:{name}")
    known = ROLE_OF.get(name)
    if known is None:
        raise RefusedError("unknown_role", name[:20])
    turn = Turn(known, text, learned, _reasoning(item, notices), name=said_by)
    called = next((call for call in CALLS if not blank(item.get(call))), "")
    if not called:
        return turn
    return turn._replace(calls=calls_of(item[called], called), beyond=f"turn_calls_tools:{called}")


def _reasoning(item: Mapping[str, Any], notices: list[str]) -> str:
    thought = next((item[name] for name in THOUGHTS if not blank(item.get(name))), None)
    return _content(thought, notices)


def _first(item: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)


def _content(content: Any, notices: list[str]) -> str:
    """The text of a turn, which may come in parts; raises RefusedError if one of them is not text."""
    if not isinstance(content, list):
        return text_of(content, "turn", notices) or ""
    return "".join(_part(part, notices) for part in content)


def _part(part: Any, notices: list[str]) -> str:
    if isinstance(part, Mapping):
        kind = part.get("type")
        if kind is not None and kind not in TEXT_PARTS:
            raise RefusedError("turn_part", str(kind))
        if "text" not in part:
            raise RefusedError("turn_part", ", ".join(map(str, part)))
        part = part["text"]
    return text_of(part, "turn", notices) or ""
