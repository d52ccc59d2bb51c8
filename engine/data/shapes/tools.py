"""Tools that a conversation may call, and its calls, as JSON in the form that chat templates read."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from engine.data.shapes.account import RefusedError
from engine.data.shapes.values import SURROGATE


def calls_of(value: Any, column: str) -> str:
    """The calls of an answer: `[{"type": "function", "function": {"name": …, "arguments": {…}}}]`; raises RefusedError.

    One call or several, by their functions or their names alone, as objects or as JSON; arguments also as JSON.
    """
    calls = [_call(call, column) for call in _objects(value, "turn_calls_unclear", column)]
    return _json(calls, "turn_calls_unclear", column)


def tools_of(value: Any, column: str) -> str:
    """The tools of a conversation: `[{"type": "function", "function": {"name": …, …}}]`; raises RefusedError."""
    return _json([_wrapped(tool) for tool in _objects(value, "tools_unclear", column)], "tools_unclear", column)


def _objects(value: Any, code: str, column: str) -> list[dict[str, Any]]:
    """The value, parsed if it is JSON, as a list of objects."""
    if isinstance(value, str):
        value = _parsed(value)
    items = [value] if isinstance(value, Mapping) else value
    if not isinstance(items, list | tuple) or not items:
        raise RefusedError(code, column)
    items = [_parsed(item) if isinstance(item, str) else item for item in items]
    if not all(isinstance(item, Mapping) for item in items):
        raise RefusedError(code, column)
    return [dict(item) for item in items]


def _parsed(text: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def _wrapped(tool: dict[str, Any]) -> dict[str, Any]:
    """A function by itself as a tool; a tool of any other form as it is."""
    return {"type": "function", "function": tool} if "name" in tool and "function" not in tool else tool


def _call(call: dict[str, Any], column: str) -> dict[str, Any]:
    wrapped = _wrapped({name: value for name, value in call.items() if name not in ("id", "type")})
    function = wrapped.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RefusedError("turn_calls_unclear", column)
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        parsed = _parsed(arguments)
        arguments = parsed if isinstance(parsed, Mapping) else arguments
    named = {"id": call["id"]} if isinstance(call.get("id"), str) and call["id"] else {}
    arguments = {} if arguments is None or arguments == "" else arguments
    return {**named, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _json(value: Any, code: str, column: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise RefusedError(code, column) from None
    if SURROGATE.search(text):
        raise RefusedError("turn_not_utf8")
    return text
