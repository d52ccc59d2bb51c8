"""Tools and their calls, in the forms that data sets have them in."""

import json
from typing import Any

import pytest

from engine.data.shapes.account import RefusedError
from engine.data.shapes.tools import calls_of, tools_of

FUNCTION: dict[str, Any] = {"name": "天气", "arguments": {"城市": "北京", "days": None}}
CALL = [{"type": "function", "function": FUNCTION}]
TOOL = {"name": "天气", "description": "x", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    "value",
    [CALL, json.dumps(CALL), FUNCTION, json.dumps(FUNCTION), [FUNCTION], [json.dumps(FUNCTION)],
     [{"type": "function", "function": {"name": "天气", "arguments": json.dumps(FUNCTION["arguments"])}}],
     {"name": "天气", "parameters": FUNCTION["arguments"]}],
)  # fmt: skip
def test_a_call_in_any_form_is_one_with_its_arguments_as_an_object(value: Any) -> None:
    assert json.loads(calls_of(value, "tool_calls")) == CALL


def test_a_call_keeps_its_id_and_arguments_that_are_no_object() -> None:
    found = json.loads(calls_of([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "x"}}], "c"))
    assert found == [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "x"}}]


@pytest.mark.parametrize("value", ["{", "Search('x')", [3], {}, [{"arguments": {}}], [{"name": 7}], 7, None])
def test_what_is_no_call_is_refused(value: Any) -> None:
    with pytest.raises(RefusedError, match="turn_calls_unclear:function_call"):
        calls_of(value, "function_call")


@pytest.mark.parametrize("value", [TOOL, [TOOL], json.dumps([TOOL]), [{"type": "function", "function": TOOL}]])
def test_tools_are_functions_as_templates_read_them(value: Any) -> None:
    assert json.loads(tools_of(value, "tools")) == [{"type": "function", "function": TOOL}]


@pytest.mark.parametrize("value", ["a tool", [3], 7])
def test_what_describes_no_tools_is_refused(value: Any) -> None:
    with pytest.raises(RefusedError, match="tools_unclear:tools"):
        tools_of(value, "tools")


def test_half_a_surrogate_pair_is_not_utf8() -> None:
    with pytest.raises(RefusedError, match="turn_not_utf8"):
        calls_of({"name": "f", "arguments": {"x": "\ud800"}}, "tool_calls")
